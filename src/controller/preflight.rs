//! What is requested from the cluster once at the start: the operator's permissions, and the service addresses.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::arcgis::ServiceRanges;
use crate::cluster::{ApiError, Cluster, NEEDED, Right};
use crate::ops::Readiness;

const AGAIN: Duration = Duration::from_secs(10);

/// Repeats the requests until all permissions are granted and the service addresses are known. Readiness names the
/// permissions that are missing.
pub async fn run(cluster: Cluster, scopes: Vec<Option<String>>, readiness: Arc<Readiness>, services: ServiceRanges) {
    let mut ranges_open = true;
    let mut rights_open: Vec<(Option<String>, Right)> =
        scopes.iter().flat_map(|scope| NEEDED.map(|right| (scope.clone(), right))).collect();
    loop {
        if ranges_open {
            ranges_open = !learn_ranges(&cluster, &services).await;
        }
        let mut open = Vec::new();
        for (scope, right) in rights_open {
            if !is_settled(&cluster, &readiness, scope.as_deref(), right).await {
                open.push((scope, right));
            }
        }
        if open.is_empty() && !ranges_open {
            return;
        }
        rights_open = open;
        sleep(AGAIN).await;
    }
}

/// Reviews a permission; returns whether it need not be reviewed again.
async fn is_settled(cluster: &Cluster, readiness: &Readiness, scope: Option<&str>, right: Right) -> bool {
    let name = match scope {
        Some(namespace) => format!("the right to {right} in namespace {namespace}"),
        None => format!("the right to {right}"),
    };
    let granted = match cluster.may(scope, right).await {
        Ok(granted) => granted,
        // A permission that cannot be reviewed shows when it is used.
        Err(error) if is_final(&error) => true,
        Err(_) => return false,
    };
    if granted {
        readiness.satisfied(&name);
    } else if readiness.waiting(&name, "apply the operator's RBAC") {
        warn!("missing: {name}: apply the operator's RBAC");
    }
    granted
}

/// Returns whether the service addresses are known, or known to be unavailable: then the range around the API server's
/// own address is used.
async fn learn_ranges(cluster: &Cluster, services: &ServiceRanges) -> bool {
    match cluster.service_ranges().await {
        Ok(ranges) => {
            let ranges: Vec<_> = ranges.iter().filter_map(|range| range.parse().ok()).collect();
            if !ranges.is_empty() {
                services.set(ranges);
            }
            true
        }
        Err(error) => is_final(&error),
    }
}

/// Whether another request gets the same answer: the permission is missing, or the API server has no such kind.
fn is_final(error: &ApiError) -> bool {
    matches!(error, ApiError::Forbidden | ApiError::NotFound)
}
