//! `run`: the controller.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kube::Config;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::environment::{clock, portals, read_bundle};
use crate::arcgis::Portals;
use crate::cli::RunArgs;
use crate::cluster::{Clocks, Cluster, Leases, access};
use crate::controller::{self, Options, Parts};
use crate::core::ServerClock;
use crate::index::Index;
use crate::ops::{self, Metrics, Readiness};

/// A file that is mounted changes at any time, without an event.
const RELOAD_PERIOD: Duration = Duration::from_secs(3);
/// The file that holds the pod's namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Runs the controller until a signal to stop.
pub async fn run(args: RunArgs) -> Result<(), String> {
    let _log = ops::init(args.log_format, args.log_level);
    let portals = Arc::new(portals(args.ca_file.as_deref())?);
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let listener = ops::bind(args.admin_address).map_err(|error| {
        let address = args.admin_address.map_or_else(|| "[::]:8080".to_owned(), |address| address.to_string());
        format!("--admin-address {address}: cannot listen there: {error}")
    })?;
    let config = access().await.map_err(|error| error.to_string())?;
    let lease_namespace = args.lease_namespace.unwrap_or_else(|| own_namespace(&config));
    let server_clock = Arc::new(ServerClock::default());
    let clocks = Clocks { server: server_clock.clone(), now: clock };
    let cluster = Cluster::connect(&config, &clocks).map_err(|error| error.to_string())?;
    let leases = args.leader_elect.then(|| Leases::new(cluster.watches(), lease_namespace, args.lease_name));
    let index = Arc::new(Mutex::new(Index::default()));
    let metrics = Arc::new(Metrics::new(index.clone(), clock).map_err(|error| error.to_string())?);
    let readiness = Arc::new(Readiness::default());
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    // The probes are answered until the last reconcile has ended.
    let stopped = CancellationToken::new();
    let admin = tokio::spawn(ops::serve(listener, metrics.clone(), readiness.clone(), stopped.clone()));
    let roots_changed = Arc::new(Notify::new());
    let reload = args.ca_file.map(|path| tokio::spawn(reload_roots(path, portals.clone(), roots_changed.clone())));
    let _reload = reload.map(AbortOnDropHandle::new);
    let options = Options {
        namespaces: args.namespaces,
        selector: args.selector,
        allowed: args.allowed_portals,
        concurrency: args.concurrency,
    };
    let parts = Parts { cluster, leases, portals, roots_changed, index, metrics, readiness, clock, server_clock };
    controller::run(options, parts, stop).await;
    stopped.cancel();
    // A scraper that keeps its connection open must not delay the end.
    let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
    info!("stopped");
    Ok(())
}

/// Reads the roots of `--ca-file` again when they change. A file that cannot be read leaves the ones in use.
async fn reload_roots(path: PathBuf, portals: Arc<Portals>, changed: Arc<Notify>) {
    let mut current = read_bundle(&path);
    loop {
        tokio::time::sleep(RELOAD_PERIOD).await;
        let read = read_bundle(&path);
        if read == current {
            continue;
        }
        match &read {
            Ok(bundle) => {
                info!(path = %path.display(), "trusted roots changed");
                portals.set_roots(bundle.clone());
                changed.notify_one();
            }
            Err(error) => warn!("{error}: the roots in use stay"),
        }
        current = read;
    }
}

/// Returns the pod's namespace; without a pod that of the kubeconfig, else that of the service account.
fn own_namespace(config: &Config) -> String {
    let pod = std::fs::read_to_string(POD_NAMESPACE).ok().map(|text| text.trim().to_owned());
    let chosen = Some(&config.default_namespace).filter(|namespace| *namespace != "default");
    let account = || config.auth_info.token.as_ref().and_then(|token| account_namespace(token.expose_secret()));
    pod.or_else(|| chosen.cloned()).or_else(account).unwrap_or_else(|| config.default_namespace.clone())
}

/// Returns the namespace in a service account's token, which the API server verifies.
fn account_namespace(token: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let account = claims["sub"].as_str()?.strip_prefix("system:serviceaccount:")?;
    account.split_once(':').map(|(namespace, _)| namespace.to_owned())
}

fn stop_on_signal(stop: CancellationToken) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::account_namespace;

    #[test]
    fn a_service_account_s_token_says_its_namespace_and_nothing_else_does() {
        let token = |claims: &str| format!("head.{}.mark", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let of = |claims: &str| account_namespace(&token(claims));
        assert_eq!(of(r#"{"sub":"system:serviceaccount:maps:operator"}"#).as_deref(), Some("maps"));
        for other in [r#"{"sub":"system:node:one"}"#, r#"{"sub":5}"#, "{}", "junk"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(account_namespace("opaque"), None);
    }
}
