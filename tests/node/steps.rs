//! The steps without disturbances.

use std::time::Duration;

use arcgis_credential_operator::api::ArcGisAppCredential;
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::time::timeout;

use crate::cluster::{Cluster, MAPS, NAME, RESOURCE};
use crate::report::Report;
use crate::support::is;
use crate::workload::Workload;

/// With this lifetime, a token is renewed every 30 s.
pub const LIFETIME: u64 = 60;
/// The longest time until a renewed token is in the file, with the fast kubelet.
pub const RENEWAL: Duration = Duration::from_secs(45);
/// The kubelet syncs a pod every 60 to 90 s by default.
const DEFAULT_DELAY: Duration = Duration::from_secs(110);

pub struct Scenario {
    pub cluster: Cluster,
    pub workload: Option<Workload>,
}

impl Scenario {
    pub async fn install(report: &mut Report) -> Self {
        report.step(
            "Install",
            "the chart's pod is admitted under `restricted` and reaches the API server with its own token",
        );
        let cluster = Cluster::connect().await;
        cluster.restricted_namespace(NAME).await;
        cluster.restricted_namespace(MAPS).await;
        cluster.portal.grant(7200, &[RESOURCE.to_owned()]);
        cluster.credentials(NAME, RESOURCE).await;
        cluster.upgrade(json!({}));
        let [pod] = &cluster.operators().await[..] else { panic!("not one pod") };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let context = serde_json::to_value(container.security_context.as_ref().unwrap()).unwrap();
        assert_eq!(context["readOnlyRootFilesystem"], true);
        let calls = cluster.calls();
        let bound = calls.get(pod.metadata.name.as_ref().unwrap()).copied().unwrap_or_default();
        assert!(bound > 0 && calls.len() == 1, "calls by pod: {calls:?}");
        report.done(&format!("ready; {bound} calls so far, all with the projected token of the pod"));
        Self { cluster, workload: None }
    }

    pub fn workload(&self) -> &Workload {
        self.workload.as_ref().unwrap()
    }

    /// Waits until a resource meets a condition.
    pub async fn resource_until(&self, name: &str, limit: Duration, condition: impl Fn(&ArcGisAppCredential) -> bool) {
        let reached = await_condition(self.cluster.resources(), name, |r: Option<&ArcGisAppCredential>| {
            r.is_some_and(&condition)
        });
        timeout(limit, reached).await.unwrap_or_else(|_| panic!("{name}: not within {limit:?}")).unwrap();
    }

    pub async fn ready(&self, name: &str) {
        self.resource_until(name, Duration::from_secs(30), |r| is(r, "Ready", "True", "TokenValid")).await;
    }

    pub async fn first_token(&mut self, report: &mut Report) {
        report.step("First token", "a pod that mounts the target calls the secured feature service");
        self.cluster.resource(RESOURCE).await;
        self.ready(RESOURCE).await;
        self.workload = Some(Workload::start(&self.cluster).await);
        let enough = |lines: &[crate::workload::Line]| lines.last().is_some_and(|line| line.requests >= 10);
        self.workload().wait("10 requests", Duration::from_mins(1), enough).await;
        let requests = self.workload().without_failures().await;
        report.done(&format!("{requests} requests, none failed"));
    }

    pub fn helm_test(&self, report: &mut Report) {
        report.step("helm test", "a pod requests a token with the credentials, the network and the CA of the release");
        let printed = self.cluster.helm(&["test", NAME, "--logs", "--timeout=60s"], None);
        let issued = printed.lines().find(|line| line.starts_with("Issued: "));
        report.done(issued.unwrap_or_else(|| panic!("no token was issued: {printed}")));
    }

    pub async fn default_delay(&self, report: &mut Report) {
        report.step("A renewal with the kubelet's defaults", "the file changes without a restart of the pod");
        self.cluster.request_token("default-delay").await;
        let delay = self.workload().next_tokens(1, DEFAULT_DELAY).await[0];
        self.cluster.request_token("annotated-pod").await;
        let next = self.workload().next_tokens(1, DEFAULT_DELAY);
        let annotated = tokio::join!(next, self.workload().annotate_after_write()).0[0];
        self.workload().without_failures().await;
        report.done(&format!(
            "{delay:.1} s from the Secret to the file; {annotated:.1} s when the pod is annotated after the write"
        ));
    }

    pub async fn kubelet_restart(&self, report: &mut Report) {
        report.step("The kubelet is killed and starts again, with syncFrequency 2s", "pods and renewals go on");
        self.cluster.restart_kubelet("syncFrequency: 2s").await;
        self.cluster.request_token("fast-delay").await;
        let delay = self.workload().next_tokens(1, RENEWAL).await[0];
        let requests = self.workload().without_failures().await;
        report.done(&format!("{requests} requests, none failed; from the Secret to the file now {delay:.1} s"));
    }

    pub async fn three_renewals(&self, report: &mut Report) {
        report.step("Three renewals", "tokens that are valid for 60 s are replaced without a failed request");
        self.cluster.portal.grant(LIFETIME, &[RESOURCE.to_owned()]);
        self.cluster.request_token("short-lifetime").await;
        self.workload().next_tokens(1, RENEWAL).await;
        let delays = self.workload().next_tokens(3, 3 * RENEWAL).await;
        let requests = self.workload().without_failures().await;
        let delays: Vec<String> = delays.iter().map(|delay| format!("{delay:.1} s")).collect();
        report.done(&format!("{requests} requests, none failed; from the Secret to the file {}", delays.join(", ")));
    }
}
