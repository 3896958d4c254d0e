//! Which waits end when a host answers again, and which resource tries a host that does not. Each function returns the
//! resources to reconcile.

use std::collections::BTreeMap;

use tracing::info;

use super::context::Context;
use super::observe;
use crate::api::Reason;
use crate::core::RetryAfterRecord;
use crate::index::{IndexedResource, Key};

/// Retries what failed because a portal's certificate did not verify.
pub fn roots_changed(ctx: &Context) -> Vec<Key> {
    ctx.index().retry_at(ctx.now(), |_, reason| reason == Reason::PortalUntrusted)
}

/// Retries what failed because of an outage of this portal host, which is over.
pub fn recovered(ctx: &Context, host: &str) -> Vec<Key> {
    info!(portal = host, "the portal answers again");
    ctx.index().retry_at(ctx.now(), |resource, reason| reason.is_outage() && uses(resource, host))
}

/// Lets one resource without a valid token try each host that answers no request, whatever the waits: its workloads fail
/// until the first success. It is the one whose turn comes first.
pub fn probes(ctx: &Context) -> Vec<Key> {
    let hosts = ctx.hosts.take_probes();
    let mut index = ctx.index();
    hosts.iter().filter_map(|host| index.next_to_probe(ctx.now(), |resource| uses(resource, host))).collect()
}

fn uses(resource: &IndexedResource, host: &str) -> bool {
    observe::plan(resource).is_ok_and(|plan| plan.portal.authority() == host)
}

/// Restores the pauses that hosts asked for before a restart.
pub fn restore_pauses(ctx: &Context) {
    let mut by_host: BTreeMap<String, Vec<RetryAfterRecord>> = BTreeMap::new();
    for (_, resource) in ctx.index().iter() {
        if resource.report.problem != Some(Reason::RateLimited) {
            continue;
        }
        let status = resource.status();
        let host = status.portal.as_deref().and_then(|portal| portal.split('/').next());
        if let (Some(record), Some(host)) = (RetryAfterRecord::of(&status), host) {
            by_host.entry(host.to_owned()).or_default().push(record);
        }
    }
    for (host, records) in by_host {
        ctx.hosts.restore(&host, &records);
    }
}
