//! Faults of the connections to the API server, and of its answers.

use std::time::Duration;

use testkit::api_proxy::{Call as Received, InjectedFault};
use tokio::time::sleep;

use crate::checks::{Call, LIMITED_SECONDS};
use crate::plan::Fault;
use crate::stage::{Stage, now};

/// Injects one and ends it.
pub async fn inject(stage: &Stage, fault: Fault, lasts: Duration) {
    let proxy = stage.env.api_proxy();
    let injected = match fault {
        Fault::ApiSlow => InjectedFault::Delayed(Duration::from_secs(2)),
        Fault::ApiTooManyRequests => InjectedFault::RetryAfter(3),
        Fault::ApiErrors => InjectedFault::Status(500),
        Fault::ApiPriorityAndFairness => {
            limit(stage);
            sleep(lasts).await;
            return proxy.clear_faults();
        }
        Fault::WatchesTooOld => {
            expire_watches(stage);
            // Watches that run are closed, so that each starts again.
            stage.links.iter().for_each(|link| link.close_connections());
            sleep(lasts).await;
            return proxy.clear_faults();
        }
        _ => {
            stage.links.iter().for_each(|link| link.silence());
            return;
        }
    };
    proxy.inject(usize::MAX, injected, |_| true);
    sleep(lasts).await;
    proxy.clear_faults();
}

/// Answers each call as priority and fairness does, and records those about single objects of the fleet.
fn limit(stage: &Stage) {
    let record = stage.record.clone();
    stage.env.api_proxy().inject(usize::MAX, InjectedFault::RetryAfterHeader(LIMITED_SECONDS), move |call| {
        if call.path.contains("/secrets/") || call.path.contains("/arcgisappcredentials/") {
            record.lock().unwrap().limited.push(received(call));
        }
        true
    });
}

/// Lets no watch start, and records the lists.
fn expire_watches(stage: &Stage) {
    let record = stage.record.clone();
    stage.env.api_proxy().inject(usize::MAX, InjectedFault::Status(410), move |call| {
        let starts = call.path.contains("watch=") && !call.path.contains("sendInitialEvents=");
        let lists = call.method == "GET" && ["/secrets", "/arcgisappcredentials"].iter().any(|end| call.lists(end));
        if lists && !call.path.contains("continue=") && !call.path.ends_with("limit=1") {
            record.lock().unwrap().lists.push(received(call));
        }
        starts
    });
}

fn received(call: &Received) -> Call {
    let path = call.path.split('?').next().unwrap_or_default();
    Call { at: now(), what: format!("{} {path}", call.method) }
}
