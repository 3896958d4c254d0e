//! Notices that etcd was restored from a backup: versions went back, or the Lease lacks what was written to it. A watch
//! from a version of the future is accepted and stays silent, so everything is listed again.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::Notify;
use tracing::warn;

use crate::core::Version;

/// The versions that were seen last.
#[derive(Default)]
pub struct Revisions {
    lease: Mutex<u64>,
    cluster: Mutex<u64>,
    restored: Notify,
}

fn number(version: Option<&str>) -> Option<u64> {
    version.and_then(|version| version.parse().ok())
}

impl Revisions {
    /// Records the version of the Lease, which grows with each write of it, and whether what was written to it is undone.
    pub fn lease(&self, lease: &Lease, undone: bool) {
        self.record(&self.lease, lease.metadata.resource_version.as_deref(), undone);
    }

    /// Records the version of the cluster, which is no lower than that of any object.
    pub fn cluster(&self, version: Option<&str>) {
        self.record(&self.cluster, version, false);
    }

    /// Records that an object was read of which a version is known. `unknown`: the API server did not know that version, so
    /// it is one of the future, unless the object has it anyway or a later one.
    pub fn read(&self, known: &Version, read: Option<&Version>, unknown: bool) {
        let same = |read: &Version| unknown || known.uid == read.uid;
        let went_back = |read: &Version| read.resource.is_older_than(&known.resource);
        if read.map_or(unknown, |read| same(read) && went_back(read)) {
            self.went_back();
        }
    }

    fn went_back(&self) {
        warn!("the cluster went back to an earlier state, as after a restore of etcd: listing everything again");
        self.restored.notify_one();
    }

    fn record(&self, last: &Mutex<u64>, version: Option<&str>, undone: bool) {
        let lower = number(version).is_some_and(|version| {
            let last = std::mem::replace(&mut *last.lock().unwrap_or_else(PoisonError::into_inner), version);
            version < last
        });
        if lower || undone {
            self.went_back();
        }
    }

    /// Waits until the cluster went back.
    pub async fn restored(&self) {
        self.restored.notified().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use futures::FutureExt;

    use super::*;

    fn version(uid: &str, resource: &str) -> Version {
        Version::new(uid, resource)
    }

    fn restored(revisions: &Revisions) -> bool {
        revisions.restored().now_or_never().is_some()
    }

    #[test]
    fn versions_that_go_back_are_noticed_once() {
        let revisions = Revisions::default();
        let lease = |version: &str| {
            let metadata = serde_json::json!({"metadata": {"resourceVersion": version}});
            serde_json::from_value::<Lease>(metadata).unwrap()
        };
        for (seen, expected) in [("100", false), ("101", false), ("90", true), ("91", false), ("opaque", false)] {
            revisions.lease(&lease(seen), false);
            assert_eq!(restored(&revisions), expected, "{seen}");
        }
        revisions.lease(&lease("92"), true);
        assert!(restored(&revisions), "what was written to the Lease is undone");
        for (seen, expected) in [("500", false), ("500", false), ("499", true), ("600", false)] {
            revisions.cluster(Some(seen));
            assert_eq!(restored(&revisions), expected, "{seen}");
        }
        for (known, read, expected) in [("9", "10", false), ("10", "10", false), ("10", "9", true)] {
            revisions.read(&version("a", known), Some(&version("a", read)), false);
            assert_eq!(restored(&revisions), expected, "{known} {read}");
        }
        revisions.read(&version("a", "10"), Some(&version("b", "9")), false);
        assert!(!restored(&revisions), "it is another object");
        revisions.read(&version("a", "10"), None, false);
        assert!(!restored(&revisions), "it was deleted");
    }

    #[test]
    fn a_version_that_the_api_server_does_not_know_is_one_of_the_future_unless_the_object_has_it() {
        let revisions = Revisions::default();
        let known = version("a", "10");
        for (read, expected) in [
            (Some(version("a", "9")), true),
            (Some(version("b", "9")), true),
            (None, true),
            (Some(version("a", "10")), false),
            (Some(version("b", "11")), false),
        ] {
            revisions.read(&known, read.as_ref(), true);
            assert_eq!(restored(&revisions), expected, "{read:?}");
        }
    }
}
