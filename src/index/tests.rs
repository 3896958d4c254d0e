//! Which of several resources creates a target.

#![allow(clippy::unwrap_used, reason = "a test may")]

use serde_json::json;

use super::{Index, Key};
use crate::cluster::LeanResource;

fn resource(name: &str, created: &str, deleting: bool) -> LeanResource {
    let mut resource = json!({
        "metadata": {"namespace": "maps", "name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": created},
        "spec": {"credentialsRef": {"name": "oauth"}, "target": {"name": "shared"}},
    });
    if deleting {
        resource["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    }
    serde_json::from_value(resource).unwrap()
}

#[test]
fn the_older_creates_the_target_and_a_tie_goes_to_the_smaller_name() {
    let key = |name: &str| Key { namespace: "maps".to_owned(), name: name.to_owned() };
    let mut index = Index::default();
    for (name, created) in [("a", "2026-01-01T00:00:01Z"), ("c", "2026-01-01T00:00:00Z"), ("b", "2026-01-01T00:00:00Z")]
    {
        index.upsert(resource(name, created, false), false);
    }
    let rivals = |index: &Index| ["a", "b", "c"].map(|name| index.rival(&key(name)));
    let of = |name: &str| Some(name.to_owned());
    assert_eq!(rivals(&index), [of("b"), None, of("b")]);
    let mut gone = resource("b", "2026-01-01T00:00:00Z", true);
    gone.metadata.resource_version = Some("2".to_owned());
    index.upsert(gone, false);
    assert_eq!(rivals(&index)[0], of("c"), "one that is being deleted creates nothing");
    index.remove(&key("c"));
    assert_eq!(rivals(&index)[0], None);
}
