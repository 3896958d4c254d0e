//! Events, for `kubectl describe`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Resource;
use kube::api::ObjectMeta;

use super::client::{Cluster, MANAGER};
use super::error::ApiError;
use crate::api::ArcGisAppCredential;
use crate::core::{ConditionChange, Identity};

/// The name of the host, which is that of the pod.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { MANAGER.to_owned() } else { name.chars().take(128).collect() }
}

/// Creates the event of a condition change.
pub async fn publish(
    cluster: &Cluster,
    me: &Identity,
    change: ConditionChange,
    now: Timestamp,
) -> Result<(), ApiError> {
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", &me.name[..me.name.len().min(200)])),
            namespace: Some(me.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(change.message.chars().take(1000).collect()),
        reason: Some(change.reason),
        regarding: Some(ObjectReference {
            api_version: Some(ArcGisAppCredential::api_version(&()).into_owned()),
            kind: Some(ArcGisAppCredential::kind(&()).into_owned()),
            namespace: Some(me.namespace.clone()),
            name: Some(me.name.clone()),
            uid: Some(me.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("credentials.arcgis.dev/{MANAGER}")),
        // The pod: its host has its name.
        reporting_instance: Some(host()),
        type_: Some(if change.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    cluster.create_plain::<Event>(&me.namespace, &event).await.map(drop)
}
