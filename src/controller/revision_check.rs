//! Looks at the version of the cluster from time to time, where nothing else shows that it went back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::context::Context;

/// The time between two looks at the version of the cluster, where nothing else shows it.
const LOOK_PERIOD: Duration = Duration::from_mins(10);

/// Looks at the version of the cluster from time to time.
pub(super) async fn look(ctx: Arc<Context>, namespaces: Vec<Option<String>>) {
    loop {
        sleep(LOOK_PERIOD).await;
        let namespace = namespaces.first().and_then(Option::as_deref);
        let Ok(version) = ctx.cluster.version_of_resources(namespace).await else { continue };
        let highest = ctx.index().iter().filter_map(|(_, resource)| resource.version.number()).max();
        if let Some(highest) = highest {
            ctx.revisions.cluster(Some(&highest.to_string()));
        }
        ctx.revisions.cluster(version.as_deref());
    }
}
