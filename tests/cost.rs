//! What fifty resources cost the API server, counted from its audit log; and that nothing leaks into the logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use support::{SECRET, World, condition, is};
use testkit::portal::App;

const RESOURCES: usize = 50;

/// Calls about single objects by kind: reads, Secret writes, status writes, events.
fn count(calls: &[(String, String, String, bool)]) -> BTreeMap<&'static str, usize> {
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

fn expect(reads: usize, writes: usize, dry: usize, status: usize, events: usize) -> BTreeMap<&'static str, usize> {
    [("reads", reads), ("writes", writes), ("dry", dry), ("status", status), ("events", events)]
        .into_iter()
        .map(|(kind, each)| (kind, each * RESOURCES))
        .collect()
}

async fn all_ready(world: &World) {
    for n in 0..RESOURCES {
        world.wait(&format!("r{n}"), |r| is(r, "Ready", "True", "TokenValid")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_cost_table_holds_for_fifty_resources() {
    let mut world = World::new().await;
    for n in 0..RESOURCES {
        world.credentials(&format!("r{n}-oauth"), "app", SECRET).await;
        world.apply(&world.manifest(&format!("r{n}"), &format!("r{n}-oauth"))).await;
    }
    all_ready(&world).await;
    // An echo that caused a call would have done so by then.
    let settle = || tokio::time::sleep(Duration::from_secs(3));
    settle().await;
    let created = world.calls();
    assert_eq!(count(&created), expect(2, 1, 1, 1, 1), "created and filled");

    world.kill().await;
    world.start().await;
    settle().await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(count(&world.calls()[created.len()..]), expect(0, 0, 0, 0, 0), "a restart, and idle for a minute");
    assert_eq!(world.portal.requests("app"), RESOURCES);

    let before = world.calls().len();
    let asked = json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": "one"}}});
    for n in 0..RESOURCES {
        world.resources().patch(&format!("r{n}"), &PatchParams::default(), &Patch::Merge(&asked)).await.unwrap();
    }
    for n in 0..RESOURCES {
        let handled = |r: &arcgis_credential_operator::api::ArcGisAppCredential| {
            r.status.as_ref().is_some_and(|s| s.last_handled_request.as_deref() == Some("one"))
        };
        world.wait(&format!("r{n}"), handled).await;
    }
    settle().await;
    assert_eq!(count(&world.calls()[before..]), expect(1, 1, 0, 1, 0), "renewed");

    let before = world.calls().len();
    let label = json!({"metadata": {"labels": {"touched": "yes"}}});
    for n in 0..RESOURCES {
        world.secrets().patch(&format!("r{n}-oauth"), &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    }
    settle().await;
    assert_eq!(count(&world.calls()[before..]), expect(1, 0, 0, 1, 0), "labels of the credentials Secret changed");
    assert_eq!(world.portal.requests("app"), 2 * RESOURCES);

    world.portal.outage(true);
    let asked = json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": "two"}}});
    for n in 0..RESOURCES {
        world.resources().patch(&format!("r{n}"), &PatchParams::default(), &Patch::Merge(&asked)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = world.calls().len();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let failing = count(&world.calls()[before..]);
    assert!(failing["reads"] > 0, "attempts go on");
    assert_eq!((failing["writes"], failing["dry"], failing["status"], failing["events"]), (0, 0, 0, 0), "an outage");
    all_ready(&world).await;
    assert!(condition(&world.resources().get("r0").await.unwrap(), "Stalled").is_none());
    assert_eq!(world.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_token_is_in_any_log_at_trace_level() {
    let world = World::new().await;
    world.portal.app("bad", App { secret: "canary-other-secret".to_owned(), ..App::default() });
    world.ready("quiet").await;
    world.credentials("bad-oauth", "bad", SECRET).await;
    world.apply(&world.manifest("bad", "bad-oauth")).await;
    world.wait("bad", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    let mut bytes = 0;
    for file in std::fs::read_dir(world.plane.dir().join("logs")).unwrap() {
        let log = std::fs::read_to_string(file.unwrap().path()).unwrap();
        bytes += log.len();
        // Tokens of every stand-in portal begin like this.
        for canary in [SECRET, "canary-other-secret", "stand-in-"] {
            assert!(!log.contains(canary), "{canary} stands in a log");
        }
    }
    assert!(bytes > 0, "there are logs to search");
    let events = kube::Api::<k8s_openapi::api::events::v1::Event>::namespaced(world.client.clone(), &world.namespace);
    let told = async {
        loop {
            let told = serde_json::to_string(&events.list(&kube::api::ListParams::default()).await.unwrap()).unwrap();
            if told.contains("ClientSecretRejected") {
                return told;
            }
            // The event comes right after the status that was waited for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    assert!(!told.contains("canary") && !told.contains("stand-in-"));
    let metrics = world.ask("/metrics").await.unwrap();
    assert!(metrics.contains("arcgis_credential_problem{") && metrics.contains("outcome=\"Issued\""));
    assert!(!metrics.contains("canary") && !metrics.contains("stand-in-"));
}
