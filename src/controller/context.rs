//! What every look shares.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, Semaphore};

use super::hosts::Hosts;
use super::index::{Index, Key};
use crate::arcgis::{CaBundle, Portals, identify};
use crate::cluster::Cluster;
use crate::core::token::AccessToken;
use crate::core::{AllowedOrigin, Credentials, Digester};
use crate::ops::Metrics;

/// A status that could not be written is tried again after this many seconds.
const STATUS_RETRY_SECONDS: i64 = 5;

pub struct Context {
    pub cluster: Cluster,
    pub portals: Arc<Portals>,
    pub allowed: Vec<AllowedOrigin>,
    pub digester: Digester,
    pub index: Arc<Mutex<Index>>,
    pub hosts: Hosts,
    pub permits: Arc<Semaphore>,
    pub metrics: Arc<Metrics>,
    pub clock: fn() -> Timestamp,
    pub wake: UnboundedSender<Key>,
    /// Told when a place among those looked at at once comes free before its look has ended.
    pub freed: Notify,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub fn soon(&self) -> Timestamp {
        self.now().checked_add(SignedDuration::from_secs(STATUS_RETRY_SECONDS)).unwrap_or(Timestamp::MAX)
    }

    /// Asks whose token it is; nothing waits for the answer, which comes with a look of its own.
    pub fn verify(
        &self,
        key: Key,
        uid: String,
        portal: String,
        ca: Option<&CaBundle>,
        token: AccessToken,
        credentials: Credentials,
    ) {
        let Ok(client) = self.portals.client(ca) else { return };
        let (index, wake) = (self.index.clone(), self.wake.clone());
        tokio::spawn(async move {
            let answer = identify(&client, &portal, &token, credentials.id()).await;
            let mut index = index.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(resource) = index.get_mut(&key, &uid) {
                resource.answer = Some(answer);
            }
            // The receiver is gone only at the end.
            let _ = wake.send(key);
        });
    }
}
