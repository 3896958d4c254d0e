//! A pod that calls a secured feature service with the token of a mounted Secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{LogParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::cluster::{CA, Cluster, MAPS, TARGET};
use crate::support::text;

const POD: &str = "workload";

/// A line that the workload prints, with its time in milliseconds.
#[derive(Deserialize)]
pub struct Line {
    pub at: i64,
    pub token: Option<String>,
    pub failure: Option<String>,
    pub requests: u64,
}

pub struct Workload {
    pods: Api<Pod>,
    /// When each token was seen in the Secret.
    writes: Arc<Mutex<HashMap<String, i64>>>,
    watch: AbortHandle,
}

impl Workload {
    /// Starts the pod, which mounts the target.
    pub async fn start(cluster: &Cluster) -> Self {
        let writes = Arc::<Mutex<HashMap<String, i64>>>::default();
        let watch = tokio::spawn(watch(cluster.api(MAPS), writes.clone())).abort_handle();
        let variables = [
            ("TOKEN_DIR", "/var/run/arcgis".to_owned()),
            ("CA_FILE", "/etc/portal/ca.crt".to_owned()),
            ("LAYER_URL", format!("{}/server/rest/services/maps/FeatureServer/0/query", cluster.portal.portal.url())),
        ];
        let pod = json!({
            "metadata": {"name": POD},
            "spec": {
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": POD, "image": "localhost/workload:1", "imagePullPolicy": "Never",
                    "env": variables.map(|(name, value)| json!({"name": name, "value": value})),
                    "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                        "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "arcgis", "mountPath": "/var/run/arcgis", "readOnly": true},
                                     {"name": "portal", "mountPath": "/etc/portal", "readOnly": true}],
                }],
                "volumes": [{"name": "arcgis", "secret": {"secretName": TARGET}},
                            {"name": "portal", "configMap": {"name": CA}}],
            },
        });
        let pods = cluster.api::<Pod>(MAPS);
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        Self { pods, writes, watch }
    }

    /// Returns all that it has printed. While the kubelet restarts, its log cannot be read.
    pub async fn lines(&self) -> Vec<Line> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match self.pods.logs(POD, &LogParams::default()).await {
                Ok(log) => return log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
                Err(error) => assert!(Instant::now() < until, "the log of the workload: {error}"),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until its lines meet a condition.
    pub async fn wait(&self, what: &str, limit: Duration, condition: impl Fn(&[Line]) -> bool) -> Vec<Line> {
        let until = Instant::now() + limit;
        loop {
            let lines = self.lines().await;
            if condition(&lines) {
                return lines;
            }
            assert!(Instant::now() < until, "not within {limit:?}: {what}: {}", tail(&lines));
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Waits until it has read this many more tokens; returns the seconds from the write of each to the file.
    pub async fn next_tokens(&self, count: usize, limit: Duration) -> Vec<f64> {
        let before = tokens(&self.lines().await).len();
        let enough = |lines: &[Line]| tokens(lines).len() >= before + count;
        let lines = self.wait(&format!("{count} more tokens in the file"), limit, enough).await;
        let writes = self.writes.lock().unwrap();
        let seen = tokens(&lines).into_iter().skip(before);
        // The watch may see a write after the pod.
        seen.map(|(token, at)| seconds(at - writes.get(&token).copied().unwrap_or(at)).max(0.0)).collect()
    }

    /// Returns how many requests it has sent, after it was checked that none has failed and that the pod is the same.
    pub async fn without_failures(&self) -> u64 {
        let lines = self.lines().await;
        let failed: Vec<&String> = lines.iter().filter_map(|line| line.failure.as_ref()).collect();
        assert!(failed.is_empty(), "failed requests: {failed:?}");
        assert_eq!(self.restarts().await, 0, "the workload was restarted");
        lines.last().unwrap().requests
    }

    /// Changes the pod as soon as the next token is in the Secret, so that the kubelet syncs the pod at once.
    pub async fn annotate_after_write(&self) {
        let count = || self.writes.lock().unwrap().len();
        let before = count();
        while count() == before {
            sleep(Duration::from_millis(20)).await;
        }
        let change = json!({"metadata": {"annotations": {"synced-at": now().to_string()}}});
        self.pods.patch(POD, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    }

    pub async fn restarts(&self) -> i32 {
        let status = self.pods.get(POD).await.unwrap().status.unwrap();
        status.container_statuses.unwrap()[0].restart_count
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Returns the tokens that the workload has read, each with its time.
pub fn tokens(lines: &[Line]) -> Vec<(String, i64)> {
    lines.iter().filter_map(|line| Some((line.token.clone()?, line.at))).collect()
}

pub fn seconds(milliseconds: i64) -> f64 {
    Duration::from_millis(milliseconds.unsigned_abs()).as_secs_f64()
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn tail(lines: &[Line]) -> String {
    let last = lines.iter().rev().take(3).map(|line| format!("{:?} {:?}", line.token, line.failure));
    last.collect::<Vec<_>>().join(", ")
}

/// Records when each token is in the Secret.
async fn watch(secrets: Api<Secret>, writes: Arc<Mutex<HashMap<String, i64>>>) {
    let token = |secret: &Secret| text(secret).remove("access_token").unwrap_or_default();
    let mut last = String::new();
    loop {
        let changed = |secret: Option<&Secret>| secret.is_some_and(|secret| token(secret) != last);
        let Ok(Some(secret)) = await_condition(secrets.clone(), TARGET, changed).await else { continue };
        last = token(&secret);
        let digest = Sha256::digest(&last);
        let first = u64::from_be_bytes(std::array::from_fn(|at| digest[at])) >> 16;
        writes.lock().unwrap().insert(format!("{first:012x}"), now());
    }
}
