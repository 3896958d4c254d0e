//! The programs in examples/consumers read a layer across a renewal and across a rejected token.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::koop::Koop;
use super::processes::Process;
use super::{Mount, issue, renew};
use crate::support::fleet::poll_until;
use crate::support::packages::install;
use crate::support::{TestEnv, is};

/// A part of each successful response of the layer.
const FEATURE: &[&str] = &["Redlands"];
/// Each consumer prints one of these when its token is rejected. GDAL does not distinguish that from other failures.
const REJECTION: &[&str] = &["nvalid token", "Token Required", "Unable to open datasource", "Failed to read ESRIJSON"];

/// An interval of verification, and the time that the contract allows on top.
const NOTICED: Duration = Duration::from_secs(60 + 30);

/// The layer that the consumers read.
struct Layer<'a> {
    url: String,
    ca: &'a Path,
    mount: &'a Mount,
    /// For what the consumers write.
    folder: tempfile::TempDir,
}

impl<'a> Layer<'a> {
    fn new(url: String, ca: &'a Path, mount: &'a Mount) -> Self {
        Self { url, ca, mount, folder: tempfile::tempdir().unwrap() }
    }

    /// Returns the layer of the test portal.
    fn of_portal(env: &TestEnv, ca: &'a Path, mount: &'a Mount) -> Self {
        Self::new(format!("{}/server/rest/services/Places/FeatureServer/0", env.portal.url()), ca, mount)
    }

    fn start(&self, name: &str, command: &[&str]) -> Process {
        let ca = |variable| (variable, self.ca.display().to_string());
        let variables = [
            ("TOKEN_DIR", self.mount.path().display().to_string()),
            ("LAYER_URL", self.url.clone()),
            ("EVERY", "0.3".to_owned()),
            ("OUTPUT", self.folder.path().join(format!("{name}.gpkg")).display().to_string()),
            ca("CURL_CA_BUNDLE"),
            ca("GDAL_CURL_CA_BUNDLE"),
            ca("SSL_CERT_FILE"),
            ca("REQUESTS_CA_BUNDLE"),
            ca("NODE_EXTRA_CA_CERTS"),
        ];
        Process::start(name, command, &variables)
    }

    /// Starts the consumers that need little.
    async fn small(&self) -> Vec<Process> {
        let mut consumers = vec![
            self.start("curl", &["examples/consumers/curl/read.sh"]),
            self.start("shell", &["examples/consumers/shell/read.sh"]),
            self.start("python", &["python3", "examples/consumers/python/read.py"]),
        ];
        if let Some(python) = install(&["gdal"]).await {
            let python = python.display().to_string();
            consumers.push(self.start("gdal", &["examples/consumers/gdal/read.sh"]));
            consumers.push(self.start("gdal in one process", &[&python, "examples/consumers/gdal/read.py"]));
        }
        if let Some(folder) = install(&["npm", "examples/consumers/rest-js"]).await {
            for script in ["request.mjs", "features.mjs", "items.mjs"] {
                let path = folder.join(script).display().to_string();
                consumers.push(self.start(&format!("rest-js {script}"), &["node", &path]));
            }
        }
        consumers
    }

    /// Starts the consumers whose packages are large.
    async fn large(&self) -> Vec<Process> {
        let mut consumers = Vec::new();
        for name in ["arcgis-python", "pyogrio"] {
            let folder = format!("examples/consumers/{name}");
            if let Some(python) = install(&["venv", &folder]).await {
                let python = python.display().to_string();
                consumers.push(self.start(name, &[&python, &format!("{folder}/read.py")]));
            }
        }
        consumers
    }
}

/// Renews the token under running consumers: first without a gap, then with a token that expires before the files change.
async fn follow(env: &TestEnv, mount: &Mount, mut consumers: Vec<Process>) {
    for consumer in &mut consumers {
        consumer.wait_for(FEATURE, 1).await;
    }
    let first = env.target("app").await;
    let second = renew(env, "renewed").await;
    mount.publish(&second);
    // A request with the first token that is in flight is still answered.
    for consumer in &mut consumers {
        let reads = consumer.count(FEATURE);
        consumer.wait_for(FEATURE, reads + 2).await;
    }
    env.portal.expire(&first["access_token"]);
    for consumer in &mut consumers {
        let reads = consumer.count(FEATURE);
        consumer.wait_for(FEATURE, reads + 2).await;
        assert_eq!(consumer.count(REJECTION), 0, "{} used the old token", consumer.name);
    }

    let third = renew(env, "rejected").await;
    env.portal.expire(&second["access_token"]);
    for consumer in &mut consumers {
        consumer.wait_for(REJECTION, 1).await;
    }
    mount.publish(&third);
    for consumer in &mut consumers {
        let reads = consumer.count(FEATURE);
        consumer.wait_for(FEATURE, reads + 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_switch_to_the_new_token_without_a_restart() {
    let env = TestEnv::new().await;
    let mount = Mount::new(&issue(&env, "app", None).await);
    let ca = env.ca_file();
    let layer = Layer::of_portal(&env, &ca, &mount);
    let consumers = layer.small().await;
    assert!(consumers.len() >= 3);
    let rest_js = consumers.iter().any(|consumer| consumer.name.starts_with("rest-js"));
    follow(&env, &mount, consumers).await;
    // rest-js sends it to www.arcgis.com where a program does not set the portal.
    let search = env.portal.journal().into_iter().find(|entry| entry.path.ends_with("/sharing/rest/search"));
    assert_eq!(search.is_some(), rest_js);
    if let Some(search) = search {
        assert!(
            search.headers.contains(&"x-esri-authorization".to_owned()) && !search.query.unwrap().contains("token")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_a_service_of_koop_switch_to_the_new_token_without_a_restart() {
    let env = TestEnv::new().await;
    let mount = Mount::new(&issue(&env, "app", None).await);
    let Some(koop) = Koop::start(&env).await else { return };
    let layer = Layer::new(koop.layer(), &koop.bundle, &mount);
    let mut consumers = layer.small().await;
    consumers.extend(layer.large().await);
    follow(&env, &mount, consumers).await;
}

/// The consumers report rejections until the operator has noticed them and replaced the token, and then continue.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_continue_after_the_portal_ended_all_tokens() {
    let env = TestEnv::new().await;
    let first = issue(&env, "app", None).await;
    env.change("app", json!({"spec": {"verification": {"interval": "1m"}}})).await;
    env.wait("app", |r| is(r, "Verified", "True", "AppKnown")).await;
    let mount = Mount::new(&first);
    let ca = env.ca_file();
    let layer = Layer::of_portal(&env, &ca, &mount);
    let mut consumers = layer.small().await;
    for consumer in &mut consumers {
        consumer.wait_for(FEATURE, 1).await;
    }
    env.portal.revoke_all();
    for consumer in &mut consumers {
        consumer.wait_for(REJECTION, 1).await;
    }
    let next = poll_until("a new token", NOTICED, async || {
        let target = env.target("app").await;
        (target["access_token"] != first["access_token"]).then_some(target)
    });
    mount.publish(&next.await);
    for consumer in &mut consumers {
        let reads = consumer.count(FEATURE);
        consumer.wait_for(FEATURE, reads + 2).await;
        let rejections = consumer.count(REJECTION);
        consumer.wait_for(FEATURE, reads + 4).await;
        assert_eq!(consumer.count(REJECTION), rejections, "{} is rejected again", consumer.name);
    }
    assert_eq!(env.portal.requests("app"), 2, "one request for the rejected token");
}
