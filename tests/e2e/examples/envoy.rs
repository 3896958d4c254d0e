//! examples/envoy: a workload that has no token, and an Envoy that adds it and follows each renewal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::processes::{Process, TIMEOUT};
use super::{Mount, issue, renew};
use crate::support::fleet::poll_until;
use crate::support::packages::install;
use crate::support::{TestEnv, free_address};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::task::AbortOnDropHandle;

const EXAMPLE: &str = "examples/envoy/deployment.yaml";
const KEY: &str = "envoy-token.yaml";
/// How long after the swap of the mounted folder a request may still have the old token.
const DELAY: Duration = Duration::from_secs(1);

/// Returns the manifests of the example by their kind.
fn manifests() -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    documents.map(|document| (document["kind"].as_str().unwrap().to_owned(), document)).collect()
}

/// Issues a token into the keys of the example.
async fn issue_for_envoy(env: &TestEnv) -> BTreeMap<String, String> {
    issue(env, "app", None).await;
    let data = &manifests()["ArcGisAppCredential"]["spec"]["target"]["data"];
    env.change("app", json!({"spec": {"target": {"data": data}}})).await;
    let written =
        |secret: &k8s_openapi::api::core::v1::Secret| secret.data.as_ref().is_some_and(|d| d.contains_key(KEY));
    crate::support::text(&env.wait_target("app", written).await)
}

/// Mounts only the key that the example mounts.
fn mounted(target: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    [(KEY.to_owned(), target[KEY].clone())].into()
}

/// An Envoy with the configuration of the example.
struct Envoy {
    program: PathBuf,
    config: PathBuf,
    services: String,
    ready: String,
    _folder: tempfile::TempDir,
}

impl Envoy {
    async fn new(env: &TestEnv, mount: &Path) -> Option<Self> {
        let program = install(&["venv", "tests/envoy"]).await?.with_file_name("envoy");
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("envoy.yaml");
        let (workload, ready) = (free_address(), free_address());
        let mut text = manifests()["ConfigMap"]["data"]["envoy.yaml"].as_str().unwrap().to_owned();
        let port = |port: u16| format!("port_value: {port}");
        for (from, to) in [
            (port(8080), port(workload.port())),
            (port(8081), port(ready.port())),
            (port(443), port(env.portal.address().port())),
            ("services.example.com".to_owned(), "localhost".to_owned()),
            ("/etc/ssl/certs/ca-certificates.crt".to_owned(), env.ca_file().display().to_string()),
            ("/var/run/arcgis".to_owned(), mount.display().to_string()),
        ] {
            assert!(text.contains(&from), "{EXAMPLE}: no {from}");
            text = text.replace(&from, &to);
        }
        std::fs::write(&config, text).unwrap();
        let services = format!("http://{workload}/arcgis/rest/services");
        let ready = format!("http://{ready}/ready");
        Some(Self { program, config, services, ready, _folder: folder })
    }

    fn arguments(&self) -> Vec<String> {
        let config = self.config.display().to_string();
        ["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning", "--config-path", &config]
            .map(str::to_owned)
            .into()
    }

    /// Starts it, and returns when it is ready.
    async fn start(&self) -> Process {
        let program = self.program.display().to_string();
        let arguments = self.arguments();
        let command: Vec<&str> = [program.as_str()].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let process = Process::start("envoy", &command, &[]);
        poll_until("envoy is ready", TIMEOUT, async || {
            reqwest::get(&self.ready).await.ok().filter(|response| response.status().is_success())
        })
        .await;
        process
    }

    /// Runs it until it ends by itself, and returns what it has printed.
    async fn fail(&self) -> String {
        let run = Command::new(&self.program).args(self.arguments()).kill_on_drop(true).output();
        let output = tokio::time::timeout(TIMEOUT, run).await.unwrap().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// What the workload has received, each response as text with its headers.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<String>>>);

impl Received {
    fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|response| response.contains(text)).count()
    }

    /// Returns a response that does not contain the text.
    fn other_than(&self, text: &str) -> Option<String> {
        self.0.lock().unwrap().iter().find(|response| !response.contains(text)).cloned()
    }

    async fn wait_for(&self, text: &str) {
        let seen = self.count(text);
        poll_until(text, TIMEOUT, async || (self.count(text) > seen + 20).then_some(())).await;
    }
}

/// Reads the layer again and again; every other request has a token of its own, which is not valid.
async fn work(services: String, received: Received) {
    let client = reqwest::Client::new();
    for number in 0.. {
        let mut request = client.get(format!("{services}/Places/FeatureServer/0/query?where=1%3D1&f=json"));
        if number % 2 == 1 {
            request = request.header("X-Esri-Authorization", "Bearer mine").header("Authorization", "Bearer mine");
        }
        let text = match request.send().await {
            Ok(response) => {
                format!("{} {:?} ", response.status(), response.headers()) + &response.text().await.unwrap()
            }
            Err(error) => format!("no response: {error}"),
        };
        received.0.lock().unwrap().push(text);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts the workload with several requests at once.
fn start_workload(envoy: &Envoy) -> (Received, Vec<AbortOnDropHandle<()>>) {
    let received = Received::default();
    let task = || AbortOnDropHandle::new(tokio::spawn(work(envoy.services.clone(), received.clone())));
    let tasks = (0..4).map(|_| task()).collect();
    (received, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_behind_envoy_has_no_token_and_follows_renewals_and_an_outage() {
    let env = TestEnv::new().await;
    let mount = Mount::new(&BTreeMap::new());
    let Some(envoy) = Envoy::new(&env, mount.path()).await else { return };
    // Before the Secret exists; the kubelet starts the container again.
    let printed = envoy.fail().await;
    assert!(printed.contains(&format!("{KEY}' does not exist")), "{printed}");
    let mut current = issue_for_envoy(&env).await;
    mount.publish(&mounted(&current));
    let process = envoy.start().await;
    let (received, tasks) = start_workload(&envoy);
    received.wait_for("Redlands").await;

    let mut tokens = vec![current["access_token"].clone()];
    for renewal in 0..3 {
        let next = renew(&env, &format!("renewal {renewal}")).await;
        mount.publish(&mounted(&next));
        tokio::time::sleep(DELAY).await;
        env.portal.expire(&current["access_token"]);
        received.wait_for("Redlands").await;
        tokens.push(next["access_token"].clone());
        current = next;
    }
    assert_eq!(received.other_than("Redlands"), None, "a request has failed");

    env.portal.outage(true);
    received.wait_for("503 Service Unavailable").await;
    env.portal.outage(false);
    received.wait_for("Redlands").await;
    assert_eq!(received.count("\"code\":49"), 0, "no request had an old token or none");

    drop(tasks);
    for token in &tokens {
        assert_eq!(received.count(token), 0, "the workload has received a token");
        assert_eq!(process.count(&[token]), 0, "envoy logs a token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_adds_the_token_only_to_requests_for_the_services() {
    let env = TestEnv::new().await;
    let mount = Mount::new(&BTreeMap::new());
    let Some(envoy) = Envoy::new(&env, mount.path()).await else { return };
    mount.publish(&mounted(&issue_for_envoy(&env).await));
    let _process = envoy.start().await;
    let journal = env.portal.journal().len();
    for path in [
        "/../../sharing/rest/portals/self",
        "/%2e%2e/%2e%2e/sharing/rest/portals/self",
        "/..%2f..%2fsharing/rest/portals/self",
        "X/Places/FeatureServer/0",
    ] {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is"]).arg(envoy.services.clone() + path);
        let status = String::from_utf8(curl.output().await.unwrap().stdout).unwrap();
        assert!(["400", "404"].contains(&status.as_str()), "{path}: {status}");
    }
    assert_eq!(env.portal.journal().len(), journal, "the portal has got a request");
}

#[test]
fn the_workload_beside_envoy_mounts_no_token() {
    let deployment = &manifests()["Deployment"]["spec"]["template"]["spec"];
    let workload = deployment["containers"].as_array().unwrap();
    assert!(workload.iter().all(|container| container["volumeMounts"].is_null() && container["envFrom"].is_null()));
    let variables = workload.iter().filter_map(|container| container["env"].as_array()).flatten();
    assert!(variables.into_iter().all(|variable| variable["valueFrom"].is_null()));
    assert_eq!(deployment["automountServiceAccountToken"], json!(false));
    let mounts = deployment["initContainers"][0]["volumeMounts"].to_string();
    assert!(mounts.contains("/var/run/arcgis") && !mounts.contains("subPath"));
}
