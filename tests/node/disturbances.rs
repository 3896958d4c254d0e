//! The steps with a disturbance each.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use testkit::portal::App;
use tokio::time::sleep;

use crate::cluster::{NAME, RESOURCE};
use crate::report::Report;
use crate::steps::{LIFETIME, RENEWAL, Scenario};
use crate::support::is;
use crate::workload::{now, seconds, tokens};

const LOAD: usize = 20;
/// A user that the constraint `restricted-v2` may choose.
const OPENSHIFT_USER: i64 = 1_000_680_000;
/// A lost leader is replaced within 20 s; a container takes some time to start.
const TAKEOVER: Duration = Duration::from_secs(25);
/// Longer than the lifetime.
const OUTAGE: Duration = Duration::from_secs(65);

impl Scenario {
    /// Waits for one more renewal; returns what to report.
    async fn renewed(&self) -> String {
        self.workload().next_tokens(1, RENEWAL).await;
        format!("then renewed; {} requests, none failed", self.workload().without_failures().await)
    }

    pub async fn operator_killed(&self, report: &mut Report) {
        report.step("The operator is killed", "its container restarts, and leads again before a token expires");
        let (last, _) = self.cluster.leader_after("", TAKEOVER).await;
        let killed = Instant::now();
        self.cluster.kill_operator().await;
        self.cluster.leader_after(&last, TAKEOVER).await;
        let took = killed.elapsed().as_secs_f64();
        report.done(&format!("leads again after {took:.1} s, {}", self.renewed().await));
    }

    pub async fn upgrade_and_rollback(&self, report: &mut Report) {
        report.step("helm upgrade and rollback", "with 20 more resources that renew, no token is requested twice");
        let names: Vec<String> = (0..LOAD).map(|number| format!("load-{number:02}")).collect();
        self.cluster.portal.grant(LIFETIME, &names);
        for name in &names {
            self.cluster.resource(name).await;
        }
        for name in &names {
            self.ready(name).await;
        }
        let pods = async || self.cluster.operators().await.into_iter().filter_map(|pod| pod.metadata.name);
        let before: Vec<String> = pods().await.collect();
        self.cluster.upgrade(json!({"logLevel": "debug"}));
        let upgraded: Vec<String> = pods().await.collect();
        assert_ne!(before, upgraded, "the upgrade changed nothing");
        self.cluster.helm(&["rollback", NAME, "--wait", "--timeout=90s"], None);
        assert_ne!(upgraded, pods().await.collect::<Vec<String>>(), "the rollback changed nothing");
        let renewed = self.renewed().await;
        for name in &names {
            self.ready(name).await;
            let gap = self.cluster.portal.shortest_gap(name).unwrap_or(Duration::MAX);
            assert!(gap >= Duration::from_secs(25), "{name}: two token requests within {gap:?}");
        }
        report.done(&format!("both rolled out, {renewed}"));
    }

    pub async fn leader_deleted(&self, report: &mut Report) {
        report.step("Two replicas, and the leader's pod is deleted", "the other one leads within 5 s");
        self.cluster.upgrade(json!({"replicaCount": 2}));
        let (last, pod) = self.cluster.leader_after("", TAKEOVER).await;
        let deleted = Instant::now();
        self.cluster.api::<Pod>(NAME).delete(&pod, &DeleteParams::default()).await.unwrap();
        self.cluster.leader_after(&last, TAKEOVER).await;
        let took = deleted.elapsed().as_secs_f64();
        assert!(took < 5.0, "another one leads only after {took:.1} s");
        report.done(&format!("leads after {took:.1} s, {}", self.renewed().await));
    }

    pub async fn openshift(&self, report: &mut Report) {
        report
            .step("OpenShift's user", "the image runs as user 1000680000 of group 0, as `restricted-v2` would choose");
        self.cluster.upgrade(json!({"podSecurityContext": {"runAsUser": OPENSHIFT_USER}}));
        let [pod] = &self.cluster.operators().await[..] else { panic!("not one pod") };
        let pod = serde_json::to_value(pod).unwrap();
        let user = &pod["status"]["containerStatuses"][0]["user"]["linux"];
        assert_eq!((&user["uid"], &user["gid"]), (&json!(OPENSHIFT_USER), &json!(0)), "{user}");
        report.done(&format!("ready, {}", self.renewed().await));
    }

    pub async fn outage(&self, report: &mut Report) {
        report.step("The portal issues no token for 65 s", "the last token stays to its end, and the next one follows");
        // The whole lifetime is ahead.
        self.workload().next_tokens(1, RENEWAL).await;
        self.cluster.portal.answer(RESOURCE, App { close: true, ..App::default() });
        let (began, issued) = (now(), self.last_issue().await);
        let expired = |r: &_| is(r, "Ready", "False", "TokenExpired");
        self.resource_until(RESOURCE, Duration::from_secs(LIFETIME + 10), expired).await;
        sleep(OUTAGE.saturating_sub(Duration::from_millis((now() - began).unsigned_abs()))).await;
        self.cluster.portal.answer(RESOURCE, App::default());
        let back = now();
        self.resource_until(RESOURCE, Duration::from_secs(90), |r| is(r, "Ready", "True", "TokenValid")).await;
        let ready = now();
        self.workload().next_tokens(1, RENEWAL).await;
        let lines = self.workload().lines().await;
        let (_, seen) = tokens(&lines).pop().unwrap();
        let failed: Vec<i64> = lines.iter().filter(|line| line.failure.is_some()).map(|line| line.at).collect();
        let end = issued + i64::try_from(LIFETIME * 1000).unwrap();
        let (first, last) = (*failed.first().expect("no request failed"), *failed.last().unwrap());
        assert!(first >= end - 1500, "a request failed {:.1} s before the token expired", seconds(end - first));
        assert!(last <= seen, "a request failed with the new token");
        report.done(&format!(
            "the old token worked until it expired; a new one {:.1} s after the portal was back, in the file {:.1} s later",
            seconds(ready - back),
            seconds(seen - ready)
        ));
    }

    /// Returns when the current token was issued, in milliseconds.
    async fn last_issue(&self) -> i64 {
        let status = self.cluster.resources().get(RESOURCE).await.unwrap().status.unwrap();
        let status = serde_json::to_value(status).unwrap();
        let text = status["token"]["issueTime"].as_str().unwrap();
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    pub async fn summary(&self, report: &mut Report) {
        report.step("Summary", "one pod, never restarted");
        let lines = self.workload().lines().await;
        let failed = lines.iter().filter(|line| line.failure.is_some()).count();
        let requests = lines.last().unwrap().requests;
        assert_eq!(self.workload().restarts().await, 0);
        let tokens = tokens(&lines).len();
        report.done(&format!(
            "{requests} requests with {tokens} tokens; {failed} failed, all while the portal issued none"
        ));
    }
}
