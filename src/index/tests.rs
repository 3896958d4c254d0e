//! Which of several resources creates a target, and what is believed of what watches and lists report.

#![allow(clippy::unwrap_used, reason = "a test may")]

use serde_json::json;

use super::{Index, IndexedResource, Key, ObjectKind, Seen};
use crate::api::ArcGisAppCredentialStatus;
use crate::cluster::LeanResource;
use crate::core::{Observed, Reported, Version};

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
    let key = |name: &str| Key::new("maps", name);
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

const TARGET: ObjectKind = ObjectKind::Secret;

fn version(resource: &str) -> Version {
    Version::new("target", resource)
}

/// Reports the shared target to an index.
fn see(index: &mut Index, resource: &str, seen: Seen) {
    let key = Key::new("maps", "shared");
    index.observe(TARGET, &key, version(resource), seen);
}

fn observed(index: &Index) -> Observed<()> {
    index.observed(TARGET, "maps", "shared")
}

/// An index with a resource whose target has this version.
fn watched(resource_version: &str) -> Index {
    let mut index = Index::default();
    index.upsert(resource("a", "2026-01-01T00:00:00Z", false), false);
    see(&mut index, resource_version, Seen::Changed);
    index
}

#[test]
fn a_complete_list_is_believed_when_versions_went_back() {
    let mut index = watched("900");
    see(&mut index, "100", Seen::Changed);
    assert_eq!(observed(&index), Observed::Cached(version("900")), "a late event is not");
    index.begin_list(TARGET, None);
    see(&mut index, "100", Seen::Listed);
    assert_eq!(observed(&index), Observed::Cached(version("100")));

    let mut index = watched("900");
    index.begin_list(TARGET, None);
    index.complete_list(TARGET, None);
    assert_eq!(observed(&index), Observed::Absent, "what a list does not return is gone");

    let mut index = watched("900");
    index.begin_list(TARGET, None);
    see(&mut index, "950", Seen::Changed);
    see(&mut index, "900", Seen::Listed);
    index.complete_list(TARGET, None);
    assert_eq!(observed(&index), Observed::Cached(version("950")), "something newer was seen since it began");
}

#[test]
fn a_complete_list_is_believed_also_after_a_read_that_returned_the_older_version() {
    let mut index = watched("900");
    index.begin_list(TARGET, None);
    let before = observed(&index);
    index.record(TARGET, "maps", "shared", &before, Some(&version("100")));
    see(&mut index, "100", Seen::Listed);
    index.complete_list(TARGET, None);
    assert_eq!(observed(&index), Observed::Cached(version("100")));
}

#[test]
fn a_resource_in_a_complete_list_is_believed_when_versions_went_back() {
    let mut index = Index::default();
    let key = Key::new("maps", "a");
    let with_version = |version: &str| {
        let mut resource = resource("a", "2026-01-01T00:00:00Z", false);
        resource.metadata.resource_version = Some(version.to_owned());
        resource
    };
    index.upsert(with_version("900"), false);
    assert!(index.upsert(with_version("100"), false).is_empty(), "a late event is not");
    index.begin_resource_list(None);
    assert_eq!(index.upsert(with_version("100"), true), [key]);
}

#[test]
fn the_echo_of_an_earlier_write_does_not_undo_a_deletion() {
    let mut index = watched("10");
    let before = observed(&index);
    see(&mut index, "12", Seen::Deleted);
    index.record(TARGET, "maps", "shared", &before, Some(&version("11")));
    assert_eq!(observed(&index), Observed::Absent, "the write returned after the deletion was reported");
    index.record(TARGET, "maps", "shared", &Observed::Absent, Some(&version("13")));
    assert_eq!(observed(&index), Observed::Cached(version("13")), "a new Secret is another matter");
}

#[test]
fn a_version_that_a_call_finds_first_wakes_all_that_name_the_object() {
    let mut index = Index::default();
    for name in ["a", "b"] {
        index.upsert(resource(name, "2026-01-01T00:00:00Z", false), false);
    }
    see(&mut index, "10", Seen::Listed);
    let users = ["a", "b"].map(|name| Key::new("maps", name));
    for (found, woken) in [(Some("11"), &users[..]), (Some("11"), &[]), (None, &users), (None, &[])] {
        let before = observed(&index);
        let found = found.map(version);
        assert_eq!(index.record(TARGET, "maps", "shared", &before, found.as_ref()), woken, "{found:?}");
    }
}

/// The resource with a status, in a version.
fn with_status(version: &str, status: &serde_json::Value) -> LeanResource {
    let object = json!({
        "metadata": {"namespace": "maps", "name": "a", "uid": "a", "resourceVersion": version},
        "spec": {"credentialsRef": {"name": "oauth"}, "target": {"name": "shared"}},
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn what_the_api_server_drops_from_a_status_counts_as_written_and_another_writers_status_does_not() {
    let (mut index, key) = (watched("10"), Key::new("maps", "a"));
    let stored = json!({"observedGeneration": 1, "failure": {"reason": "CredentialsNotFound", "startTime": "2026-01-01T00:00:00Z"}});
    let mut sent = stored.clone();
    sent["failure"]["message"] = json!("Secret oauth does not exist.");
    let sent: ArcGisAppCredentialStatus = serde_json::from_value(sent).unwrap();
    let message = |index: &Index| {
        let status = index.get(&key).unwrap().status();
        status.failure.and_then(|failure| failure.message)
    };
    index.status_written(&key, "a", "20".to_owned(), &sent, Reported::default());
    assert!(!index.take_altered());
    index.upsert(with_status("20", &stored), false);
    assert!(index.take_altered() && !index.take_altered(), "it is told once");
    assert!(!index.is_contested(&key, "a"));
    assert!(message(&index).is_some(), "what was sent counts");
    // A label was changed.
    index.upsert(with_status("30", &stored), false);
    assert!(!index.is_contested(&key, "a") && message(&index).is_some() && !index.take_altered());
    index.upsert(with_status("40", &json!({"observedGeneration": 7})), false);
    assert!(index.is_contested(&key, "a") && message(&index).is_none());
}

#[test]
fn a_resource_fits_a_block_of_the_allocator() {
    // The next larger one of musl takes half as much again.
    assert!(size_of::<IndexedResource>() <= 668, "{}", size_of::<IndexedResource>());
}
