//! Notices that etcd was restored from a backup: its versions went back. A watch from a version of the future is accepted
//! and stays silent, so everything is listed again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;

use super::context::Context;
use crate::core::Version;

/// The time between two looks at the version of the cluster, where nothing else shows it.
const LOOK_PERIOD: Duration = Duration::from_mins(10);

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
    /// Records the version of the Lease, which grows with each write of it.
    pub fn lease(&self, lease: &Lease) {
        self.record(&self.lease, lease.metadata.resource_version.as_deref());
    }

    /// Records the version of the cluster, which is no lower than that of any object.
    fn cluster(&self, version: Option<&str>) {
        self.record(&self.cluster, version);
    }

    /// Records that an object was read of which a version is known.
    pub fn read(&self, known: &Version, read: &Version) {
        let went_back = number(Some(&read.resource)) < number(Some(&known.resource));
        if known.uid == read.uid && went_back {
            self.went_back();
        }
    }

    fn went_back(&self) {
        warn!("versions of the cluster went back, as after a restore of etcd: listing everything again");
        self.restored.notify_one();
    }

    fn record(&self, last: &Mutex<u64>, version: Option<&str>) {
        let Some(version) = number(version) else { return };
        let last = std::mem::replace(&mut *last.lock().unwrap_or_else(PoisonError::into_inner), version);
        if version < last {
            self.went_back();
        }
    }

    /// Waits until versions went back.
    pub async fn restored(&self) {
        self.restored.notified().await;
    }
}

/// Looks at the version of the cluster from time to time.
pub(super) async fn look(ctx: Arc<Context>, namespaces: Vec<Option<String>>) {
    loop {
        sleep(LOOK_PERIOD).await;
        let namespace = namespaces.first().and_then(Option::as_deref);
        let Ok(version) = ctx.cluster.version_of_resources(namespace).await else { continue };
        let highest = ctx.index().iter().filter_map(|(_, resource)| number(Some(&resource.version))).max();
        if let Some(highest) = highest {
            ctx.revisions.cluster(Some(&highest.to_string()));
        }
        ctx.revisions.cluster(version.as_deref());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use futures::FutureExt;

    use super::*;

    fn version(uid: &str, resource: &str) -> Version {
        Version { uid: uid.to_owned(), resource: resource.to_owned() }
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
            revisions.lease(&lease(seen));
            assert_eq!(restored(&revisions), expected, "{seen}");
        }
        for (seen, expected) in [("500", false), ("500", false), ("499", true), ("600", false)] {
            revisions.cluster(Some(seen));
            assert_eq!(restored(&revisions), expected, "{seen}");
        }
        for (known, read, expected) in [("9", "10", false), ("10", "10", false), ("10", "9", true)] {
            revisions.read(&version("a", known), &version("a", read));
            assert_eq!(restored(&revisions), expected, "{known} {read}");
        }
        revisions.read(&version("a", "10"), &version("b", "9"));
        assert!(!restored(&revisions), "it is another object");
    }
}
