//! How many calls resources cause, counted from the API server's audit log.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::support::audit::AuditedCall;
use crate::support::{SECRET, TestEnv, failure_reason, is};
use arcgis_credential_operator::api::ArcGisAppCredential;
use serde_json::{Value, json};
use testkit::control_plane::ControlPlane;
use testkit::portal::App;

/// Counts the calls about single objects by kind: reads, Secret writes, status writes, events.
fn count(calls: &[AuditedCall]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::from([("reads", 0), ("writes", 0), ("dry", 0), ("status", 0), ("events", 0)]);
    for (verb, resource, subresource, dry) in calls {
        let kind = match (verb.as_str(), resource.as_str(), subresource.as_str()) {
            ("get", _, _) => "reads",
            ("create" | "patch", "secrets", _) if *dry => "dry",
            ("create" | "patch", "secrets", _) => "writes",
            ("patch", "arcgisappcredentials", "status") => "status",
            ("create", "events", _) => "events",
            ("list" | "watch", _, _) => continue,
            other => panic!("an unexpected call: {other:?}"),
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// Several resources of one kind, and the calls that they have caused.
struct Fleet {
    env: TestEnv,
    size: usize,
    seen: usize,
    reads_seen: usize,
}

impl Fleet {
    /// Creates all at once.
    async fn new(size: usize, app: App) -> Self {
        let env = TestEnv::new().await;
        env.portal.app("app", app);
        let fleet = Self { env, size, seen: 0, reads_seen: 0 };
        fleet.apply(0..size, &|_| {}).await;
        fleet
    }

    /// Creates one, then the others, and waits until all are ready.
    async fn ready(env: TestEnv, size: usize, change: impl Fn(&mut Value)) -> Self {
        env.portal.app("app", app());
        let fleet = Self { env, size, seen: 0, reads_seen: 0 };
        fleet.apply(0..1, &change).await;
        fleet.env.wait("r0", valid).await;
        fleet.apply(1..size, &change).await;
        fleet.all(valid).await;
        fleet
    }

    async fn apply(&self, which: Range<usize>, change: &impl Fn(&mut Value)) {
        for n in which {
            self.env.credentials(&format!("r{n}-oauth"), "app", SECRET).await;
            let mut manifest = self.env.manifest(&format!("r{n}"), &format!("r{n}-oauth"));
            change(&mut manifest);
            self.env.apply(&manifest).await;
        }
    }

    async fn all(&self, condition: impl Fn(&ArcGisAppCredential) -> bool) {
        for n in 0..self.size {
            self.env.wait_for(&format!("r{n}"), Duration::from_mins(2), &condition).await;
        }
    }

    /// Requests a new token for each, and waits until the request is handled.
    async fn request_tokens(&self, mark: &str) {
        for n in 0..self.size {
            self.env.request_token(&format!("r{n}"), mark).await;
        }
        self.all(|r| r.status.as_ref().is_some_and(|s| s.last_handled_request.as_deref() == Some(mark))).await;
    }

    /// Returns the calls since the last time, after three seconds without any: by then, a watch event of an own write
    /// has had its effect.
    async fn calls(&mut self) -> BTreeMap<&'static str, usize> {
        let mut calls = self.env.calls();
        let mut quiet = Instant::now();
        while quiet.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.env.calls();
            if now.len() != calls.len() {
                quiet = Instant::now();
            }
            calls = now;
        }
        let new = count(&calls[self.seen..]);
        self.seen = calls.len();
        new
    }

    /// Asserts what the creation of all cost: the first one a dry run, each other one a look at its name, in the cache of the
    /// API server.
    async fn assert_created(&mut self, status: usize) {
        let (first, others) = ([1, 1, 1, status, 1], [2, 1, 0, status, 1]);
        let kinds = ["reads", "writes", "dry", "status", "events"].into_iter().zip(0..);
        let expected = kinds.map(|(kind, of): (_, usize)| (kind, first[of] + others[of] * (self.size - 1))).collect();
        assert_eq!(self.calls().await, expected, "created and filled");
        let looks = self.reads().iter().filter(|url| url.ends_with("resourceVersion=0")).count();
        assert_eq!(looks, self.size - 1);
    }

    /// Returns the URLs of the reads since the last time.
    fn reads(&mut self) -> Vec<String> {
        let mut reads = self.env.reads();
        let new = reads.split_off(self.reads_seen);
        self.reads_seen += new.len();
        new
    }

    fn times(
        &self,
        reads: usize,
        writes: usize,
        dry: usize,
        status: usize,
        events: usize,
    ) -> BTreeMap<&'static str, usize> {
        let each = [("reads", reads), ("writes", writes), ("dry", dry), ("status", status), ("events", events)];
        each.into_iter().map(|(kind, each)| (kind, each * self.size)).collect()
    }
}

fn valid(resource: &ArcGisAppCredential) -> bool {
    is(resource, "Ready", "True", "TokenValid")
}

fn app() -> App {
    App { secret: SECRET.to_owned(), ..App::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn creation_restart_renewal_and_outage_make_the_documented_calls() {
    let mut fleet = Fleet::ready(TestEnv::new().await, 200, |_| {}).await;
    fleet.assert_created(1).await;

    fleet.env.kill().await;
    fleet.env.start().await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(fleet.calls().await, fleet.times(0, 0, 0, 0, 0), "a restart, and idle for a minute");
    assert_eq!(fleet.env.portal.requests("app"), fleet.size);

    fleet.request_tokens("one").await;
    assert_eq!(fleet.calls().await, fleet.times(1, 1, 0, 1, 0), "renewed");

    for n in 0..fleet.size {
        fleet.env.edit_secret(&format!("r{n}-oauth"), json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    }
    assert_eq!(fleet.calls().await, fleet.times(1, 0, 0, 0, 0), "labels of the credentials Secret changed");
    assert_eq!(fleet.env.portal.requests("app"), 2 * fleet.size);

    fleet.env.portal.outage(true);
    fleet.request_tokens("two").await;
    fleet.all(|r| failure_reason(r) == Some("PortalUnreachable")).await;
    let failing = |calls: Vec<AuditedCall>| count(&calls);
    let first = failing(fleet.env.calls()[fleet.seen..].to_vec());
    assert_eq!((first["writes"], first["dry"], first["status"]), (0, 0, fleet.size), "reported once");
    fleet.seen = fleet.env.calls().len();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let failing = failing(fleet.env.calls()[fleet.seen..].to_vec());
    assert!(failing["reads"] > 0, "attempts continue");
    assert_eq!((failing["writes"], failing["dry"], failing["status"]), (0, 0, 0), "an outage");
    let events = first["events"] + failing["events"];
    assert!((1..=fleet.size).contains(&events), "told once a resource, never per attempt: {events}");
    fleet.all(valid).await;
    assert_eq!(fleet.env.terminate().await, Some(0));
}

/// How often the API server has read Secrets from etcd.
async fn etcd_reads(env: &TestEnv) -> f64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = env.client.request_text(request).await.unwrap();
    let of_secrets = |line: &&str| {
        let counts = line.starts_with("etcd_request_duration_seconds_count{");
        counts && line.contains("operation=\"get\"") && line.contains("resource=\"secrets\"")
    };
    let count = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
    metrics.lines().filter(of_secrets).map(count).sum()
}

/// On a control plane of its own, because its metrics are counted.
#[tokio::test(flavor = "multi_thread")]
async fn renewals_read_from_the_cache_of_the_api_server() {
    let plane = ControlPlane::start(&ControlPlane::from_env().unwrap().bin(), None, false).await.unwrap();
    let mut fleet = Fleet::ready(TestEnv::on(plane, &[]).await, 50, |_| {}).await;
    fleet.assert_created(1).await;
    let before = etcd_reads(&fleet.env).await;
    for mark in ["one", "two"] {
        fleet.request_tokens(mark).await;
        assert_eq!(fleet.calls().await, fleet.times(1, 1, 0, 1, 0), "renewed");
    }
    let read = etcd_reads(&fleet.env).await - before;
    let renewals = 2 * fleet.size;
    println!("{read} reads from etcd for {renewals} renewals");
    assert!(read <= 0.1 * f64::from(u32::try_from(renewals).unwrap()), "{read} reads from etcd");
    let reads = fleet.reads();
    let version = |url: &String| url.split_once("resourceVersion=").and_then(|(_, of)| of.parse::<u64>().ok());
    assert!(reads.iter().all(|url| version(url).is_some_and(|version| version > 0)), "{reads:?}");
    fleet.env.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_failure_that_requires_action_costs_a_read_and_a_status_write() {
    let mut fleet = Fleet::new(20, App { secret: crate::support::WRONG_SECRET.to_owned(), ..app() }).await;
    let count = |r: &ArcGisAppCredential| r.status.as_ref()?.failure.as_ref()?.count;
    fleet.all(|r| count(r) == Some(1)).await;
    assert_eq!(fleet.calls().await, fleet.times(1, 0, 1, 1, 1), "the first attempt, with its dry run");
    fleet.all(|r| count(r) == Some(2)).await;
    assert_eq!(fleet.calls().await, fleet.times(1, 0, 0, 1, 0), "the second attempt, a minute later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_transient_failure_costs_a_read() {
    let mut fleet = Fleet::new(20, App { close: true, ..app() }).await;
    fleet.all(|r| failure_reason(r) == Some("PortalUnreachable")).await;
    fleet.env.portal.wait_for_requests("app", 4 * fleet.size, Duration::from_mins(1)).await.unwrap();
    let calls = count(&fleet.env.calls());
    let (reads, requests) = (calls["reads"], fleet.env.portal.requests("app"));
    // An attempt in progress has read and not yet sent its request, or its request is not yet in the journal.
    assert!(reads.abs_diff(requests) <= fleet.size, "{reads} reads for {requests} attempts");
    assert_eq!(
        (calls["writes"], calls["dry"], calls["status"], calls["events"]),
        (0, fleet.size, fleet.size, fleet.size)
    );
    fleet.env.portal.app("app", app());
    fleet.all(valid).await;
    fleet.calls().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_costs_one_status_write() {
    let verify = |manifest: &mut Value| manifest["spec"]["verification"] = json!({});
    // A host has 8 requests at once: with more resources, a check might have to wait, and read the token from the target.
    let mut fleet = Fleet::ready(TestEnv::new().await, 8, verify).await;
    fleet.all(|r| is(r, "Verified", "True", "AppKnown")).await;
    fleet.assert_created(2).await;
    fleet.request_tokens("one").await;
    assert_eq!(fleet.calls().await, fleet.times(1, 1, 0, 1, 0), "renewed: the same result is not written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_conflict_costs_a_read_a_status_write_and_an_event() {
    let mut fleet = Fleet::ready(TestEnv::new().await, 2, |_| {}).await;
    fleet.calls().await;
    let older = fleet.env.manifest("r0", "r0-oauth");
    let mut rival = fleet.env.manifest("rival", "r0-oauth");
    rival["spec"]["target"]["name"] = older["spec"]["target"]["name"].clone();
    fleet.env.apply(&rival).await;
    fleet.env.wait("rival", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    let calls = fleet.calls().await;
    assert_eq!(
        (calls["reads"], calls["writes"], calls["status"], calls["events"]),
        (1, 0, 1, 1),
        "two resources with one target"
    );
    fleet.env.kill().await;
    fleet.env.start().await;
    assert_eq!(fleet.calls().await, fleet.times(0, 0, 0, 0, 0), "a restart with that conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn touches_of_a_target_cost_a_read_in_10_s_and_no_status_write() {
    let mut fleet = Fleet::ready(TestEnv::new().await, 2, |_| {}).await;
    fleet.calls().await;
    for touch in 0..40 {
        for n in 0..fleet.size {
            let change = json!({"metadata": {"annotations": {"example.com/touch": touch.to_string()}}});
            fleet.env.edit_secret(&format!("r{n}-token"), change).await;
        }
    }
    // The last version is read, too: then the next is read at once, some time later.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let calls = fleet.calls().await;
    assert!((2 * fleet.size..=5 * fleet.size).contains(&calls["reads"]), "{calls:?}");
    assert_eq!((calls["writes"], calls["status"], calls["events"]), (0, 0, 0));
    assert_eq!(fleet.env.portal.requests("app"), fleet.size);
}
