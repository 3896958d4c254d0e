//! What an earlier build wrote is taken over as it is: `tests/data` holds resources and Secrets of the build of 7400dd7,
//! as a control plane returned them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::controller::observe::observe;
use crate::core::tests::allows::Allows;
use crate::core::{Progress, Reconciliation, Version, conclude};
use crate::index::{ObjectKind, Seen};

const RECORDED: &str = include_str!("../../../tests/data/written-by-an-earlier-build.json");

fn recorded() -> Value {
    serde_json::from_str(RECORDED).unwrap()
}

/// Some seconds after the recording.
fn clock() -> Timestamp {
    let at: Timestamp = recorded()["recordedAt"].as_str().unwrap().parse().unwrap();
    at.checked_add(jiff::SignedDuration::from_secs(5)).unwrap()
}

/// The process begins with what the lists return.
fn context_of_recording() -> Arc<Context> {
    let recorded = recorded();
    let mut index = Index::default();
    for resource in recorded["resources"].as_array().unwrap() {
        index.upsert(serde_json::from_value::<LeanResource>(resource.clone()).unwrap(), true);
    }
    index.begin_list(ObjectKind::Secret, None);
    for secret in recorded["secrets"].as_array().unwrap() {
        let text = |name: &str| secret["metadata"][name].as_str().unwrap().to_owned();
        let key = Key::new(text("namespace"), text("name"));
        let version = Version::new(text("uid"), text("resourceVersion"));
        index.observe(ObjectKind::Secret, &key, version, Seen::Listed);
    }
    index.complete_list(ObjectKind::Secret, None);
    let allowed: AllowedOrigin = recorded["portal"].as_str().unwrap().parse().unwrap();
    context(index, clock, vec![allowed]).0
}

#[tokio::test]
async fn what_an_earlier_build_wrote_costs_no_call_and_no_status_write() {
    let ctx = context_of_recording();
    let keys: Vec<Key> = ctx.index().iter().map(|(key, _)| key.clone()).collect();
    let mut written = BTreeMap::new();
    for key in keys {
        let mut reconciliation = Reconciliation::new(observe(&ctx, &key).unwrap());
        let verdict = match reconciliation.next(&mut Allows(clock())) {
            Progress::Rest(verdict) => verdict,
            Progress::Call(step) => panic!("{}: {step:?}", key.name()),
            Progress::Abandon(_) => panic!("{}: abandoned", key.name()),
        };
        let conclusion = conclude(reconciliation.s, verdict, clock());
        assert_eq!(conclusion.change.filter(|_| !conclusion.changed), None, "{}: an event", key.name());
        written.insert(key.name().to_owned(), conclusion.changed);
    }
    assert_eq!(written.len(), 11);
    let written: Vec<String> = written.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect();
    assert_eq!(written, ["suspended"], "its reason says now that it is suspended; all others stay as they are");
}
