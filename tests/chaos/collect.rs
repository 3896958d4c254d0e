//! Collects what the portal, the cluster and the replicas have recorded.

use jiff::Timestamp;
use serde_json::Value;
use testkit::control_plane::USER;
use testkit::portal::Entry;

use crate::checks::{Call, Ms, Outcome, Run, Sent};
use crate::observer::Observer;
use crate::stage::{Stage, now};

/// Collects what was recorded.
pub fn run(stage: &Stage, observer: &Observer) -> Run {
    let mut record = stage.record.lock().unwrap();
    let mut windows = std::mem::take(&mut record.windows);
    windows.sort_by_key(|window| window.from);
    let journal = stage.env.portal.journal();
    let sent = journal.iter().filter_map(sent).collect();
    let verified = journal.iter().filter(|entry| entry.path.ends_with("/portals/self"));
    let verified = verified.map(|entry| entry.at.as_millisecond()).collect();
    let lifetimes = (0..stage.size).map(|n| Ms::try_from(stage.lifetime(n).as_millis()).unwrap()).collect();
    let touches = std::mem::take(&mut record.touches);
    let (limited, lists) = (std::mem::take(&mut record.limited), std::mem::take(&mut record.lists));
    let unsteady = stage.env.log().lines().filter_map(unsteady).collect();
    let calls = calls(&std::fs::read_to_string(stage.env.plane.audit_log()).unwrap());
    let published = observer.published();
    Run { windows, touches, sent, calls, limited, lists, verified, published, unsteady, lifetimes, ended: now() }
}

/// Returns when a replica wrote that it leads, or that it cannot reach its Lease.
fn unsteady(line: &str) -> Option<Ms> {
    let line: Value = serde_json::from_str(line).ok()?;
    let message = line["message"].as_str()?;
    let time: Timestamp = line["timestamp"].as_str()?.parse().ok()?;
    (message == "leading" || message.starts_with("no lease")).then(|| time.as_millisecond())
}

fn sent(entry: &Entry) -> Option<Sent> {
    if !entry.path.ends_with("/oauth2/token") {
        return None;
    }
    let resource = entry.client_id.strip_prefix('r')?.parse().ok()?;
    let outcome = match entry.status {
        _ if entry.issued => Outcome::Issued,
        Some(429) => Outcome::Limited,
        _ => Outcome::Failed,
    };
    let ended = entry.ended.map_or(Ms::MAX, Timestamp::as_millisecond);
    Some(Sent { resource, at: entry.at.as_millisecond(), ended, outcome })
}

/// Returns the calls of the operators about single objects in an audit log.
fn calls(log: &str) -> Vec<Call> {
    // An API server that was frozen receives all reads of the Lease at once.
    let events = log.lines().filter(|line| line.contains(USER) && !line.contains("/leases/"));
    let events = events.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let call = |event: Value| {
        let path = event["requestURI"].as_str()?.split('?').next()?;
        let verb = event["verb"].as_str().filter(|verb| ["get", "patch", "update"].contains(verb))?;
        let at: Timestamp = event["requestReceivedTimestamp"].as_str()?.parse().ok()?;
        Some(Call { at: at.as_millisecond(), what: format!("{verb} {path}") })
    };
    events.filter_map(call).collect()
}
