//! Whether a Lease lacks what an earlier observation of it had, as after a restore of etcd.

use k8s_openapi::api::coordination::v1::Lease;

/// Whether `read` lacks a renewal or a change of holder that `seen` has. Its version does not tell: whatever was written
/// to the cluster since a restore raises it.
pub(super) fn undone(seen: &Lease, read: &Lease) -> bool {
    let (Some(before), Some(after)) = (&seen.spec, &read.spec) else { return false };
    if seen.metadata.uid != read.metadata.uid {
        return false;
    }
    let same_term = before.holder_identity == after.holder_identity && before.acquire_time == after.acquire_time;
    let renewal_lost = same_term && after.renew_time < before.renew_time;
    renewal_lost || after.lease_transitions < before.lease_transitions
}
