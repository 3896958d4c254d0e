//! Panics, and what the metrics count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, mpsc};

use super::context::{Context, RENDERED_KIB};
use super::host_limiters::HostLimiters;
use super::leader_election::LeaderElector;
use super::observe::observe;
use super::reconciler::{self, catch_panic};
use super::report::write_status;
use super::workers::Workers;
use crate::api::{Reason, Verification};
use crate::arcgis::{Portals, ServiceRanges};
use crate::cluster::{Clocks, Cluster, LeanResource};
use crate::core::{AllowedOrigin, Conclusion, ConditionChange, Digester, Term, conclude, decide};
use crate::index::{Index, Key, Verified};
use crate::ops::Metrics;

mod upgrade;

pub(super) fn key(name: &str) -> Key {
    Key::new("maps", name)
}

/// An index of two resources of which nothing is known.
pub(super) fn two_resources() -> Index {
    let mut index = Index::default();
    for name in ["boom", "next"] {
        let resource = json!({
            "metadata": {"namespace": "maps", "name": name, "uid": name, "resourceVersion": "1", "generation": 1},
            "spec": {
                "credentialsRef": {"name": "oauth"}, "target": {"name": format!("{name}-token")}, "verification": {},
            },
        });
        index.upsert(serde_json::from_value::<LeanResource>(resource).unwrap(), false);
    }
    index
}

/// A context whose API server answers nothing, and what it requeues.
pub(super) fn context(
    index: Index,
    clock: fn() -> Timestamp,
    allowed: Vec<AllowedOrigin>,
) -> (Arc<Context>, Term, UnboundedReceiver<Key>) {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
    let index = Arc::new(Mutex::new(index));
    let (_, leadership) = LeaderElector::new(None, Arc::default(), clock, Arc::default());
    let term = leadership.claim().unwrap().term;
    let (requeue, requeued) = mpsc::unbounded_channel();
    let ctx = Context {
        cluster: Cluster::connect(&config, &Clocks { server: Arc::default(), now: clock }).unwrap(),
        portals: Arc::new(Portals::new(None, ServiceRanges::default(), crate::arcgis::Proxies::default()).unwrap()),
        allowed,
        digester: Digester::default(),
        index: index.clone(),
        hosts: HostLimiters::new(requeue.clone(), mpsc::unbounded_channel().0, clock),
        creations: Mutex::default(),
        leadership,
        workers: Workers::new(1),
        rendering: Semaphore::new(RENDERED_KIB),
        metrics: Arc::new(Metrics::new(index, clock).unwrap()),
        clock,
        server_clock: Arc::default(),
        requeue,
        events: Arc::default(),
        revisions: Arc::default(),
    };
    (Arc::new(ctx), term, requeued)
}

#[tokio::test]
async fn a_panic_is_reported_on_its_resource_alone() {
    let (ctx, term, _) = context(two_resources(), Timestamp::now, Vec::new());
    let requeue_at = catch_panic(&ctx, &key("boom"), term, async { panic!("on purpose") }).await;
    assert!(requeue_at.unwrap() > ctx.now(), "it is reconciled again");
    let reason = |name: &str| ctx.index().get(&key(name)).unwrap().memory.reported_wait().map(|failed| failed.reason);
    assert_eq!((reason("boom"), reason("next")), (Some(Reason::Internal), None));
    assert!(ctx.metrics.render().unwrap().contains(r#"reconciles_total{outcome="Internal"} 1"#));
    // The next attempt comes after a minute, and no sooner.
    let worker = ctx.workers.try_start(true).unwrap();
    let again = reconciler::run(&ctx, &key("boom"), term, worker).await.unwrap();
    assert!(again.duration_since(ctx.now()).as_secs() <= 75);
    assert_eq!(reason("boom"), Some(Reason::Internal));
    assert!(ctx.workers.try_start(true).is_some(), "no worker is lost");
}

#[tokio::test]
async fn a_reconcile_that_panics_does_not_lose_what_a_check_found() {
    let (ctx, term, _) = context(two_resources(), Timestamp::now, Vec::new());
    let answered = Verified::Answered(ctx.now(), Verification::NotAnswered, true);
    ctx.index().get_mut(&key("boom"), "boom").unwrap().verified = Some(Box::new(answered));
    let reconcile = async {
        observe(&ctx, &key("boom")).unwrap();
        panic!("on purpose")
    };
    catch_panic(&ctx, &key("boom"), term, reconcile).await;
    assert!(ctx.index().get(&key("boom")).unwrap().memory.verification.clock_differs);
}

#[tokio::test]
async fn events_beyond_those_that_may_wait_are_counted_as_dropped() {
    // Nothing sends them.
    let (ctx, term, _) = context(two_resources(), Timestamp::now, Vec::new());
    let change = || Some(ConditionChange { warning: true, reason: "Late".to_owned(), message: String::new() });
    for _ in 0..1003 {
        let s = observe(&ctx, &key("boom")).unwrap();
        let (me, verdict) = (s.me.clone(), decide(&s, ctx.now()));
        let conclusion = Conclusion { changed: false, change: change(), ..conclude(s, verdict, ctx.now()) };
        write_status(&ctx, &key("boom"), term, &me, conclusion).await;
    }
    let text = ctx.metrics.render().unwrap();
    assert!(text.contains("arcgis_credential_events_dropped_total 3\n"), "{text}");
}

#[tokio::test]
async fn portals_beyond_the_first_thousand_are_counted_together() {
    let (ctx, _, _) = context(two_resources(), Timestamp::now, Vec::new());
    for n in 0..1100 {
        ctx.metrics.requested(&format!("h{n}.example.com"), None, "First", Duration::ZERO);
    }
    let text = ctx.metrics.render().unwrap();
    assert!(text.contains(r#"token_requests_total{outcome="Issued",portal="other"} 100"#));
}
