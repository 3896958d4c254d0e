//! What is asked of the cluster once at the start: whether the operator has its rights, and its service addresses.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::arcgis::ServiceRanges;
use crate::cluster::{Cluster, NEEDED, Right};
use crate::ops::Readiness;

const AGAIN: Duration = Duration::from_secs(10);

/// Asks until every right is there; readiness names those that are missing.
pub async fn run(cluster: Cluster, scopes: Vec<Option<String>>, readiness: Arc<Readiness>, services: ServiceRanges) {
    // Without the right to know them, the range around the API server's own address stands in.
    if let Ok(ranges) = cluster.service_ranges().await {
        let ranges: Vec<_> = ranges.iter().filter_map(|range| range.parse().ok()).collect();
        if !ranges.is_empty() {
            services.set(ranges);
        }
    }
    let mut open: Vec<(Option<String>, Right)> =
        scopes.iter().flat_map(|scope| NEEDED.map(|right| (scope.clone(), right))).collect();
    let mut warned = false;
    loop {
        let mut missing = Vec::new();
        for (scope, right) in open {
            let name = match &scope {
                Some(namespace) => format!("the right to {right} in namespace {namespace}"),
                None => format!("the right to {right}"),
            };
            // What cannot be asked shows when it is needed.
            if cluster.may(scope.as_deref(), right).await == Ok(false) {
                readiness.waiting(&name, "apply the operator's RBAC");
                if !warned {
                    warn!("missing: {name}: apply the operator's RBAC");
                }
                missing.push((scope, right));
            } else {
                readiness.listed(&name);
            }
        }
        if missing.is_empty() {
            return;
        }
        warned = true;
        open = missing;
        sleep(AGAIN).await;
    }
}
