//! What all reconciles share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::events::Events;
use super::host_limiters::HostLimiters;
use super::leader_election::Leadership;
use super::revisions::Revisions;
use super::workers::{Worker, Workers};
use crate::arcgis::{CaBundle, ClientCertificate, ClientError, PortalClient, Portals};
use crate::cluster::Cluster;
use crate::core::{AllowedOrigin, Creations, Digester, MAX_TARGET_BYTES, OriginMatch, Plan, ServerClock};
use crate::index::{Index, Key};
use crate::ops::Metrics;

/// What is rendered at once of all targets, in KiB. A call needs it several times: as text, in base64, as JSON.
pub(super) const RENDERED_KIB: usize = 4096;

pub struct Context {
    pub cluster: Cluster,
    pub portals: Arc<Portals>,
    pub allowed: Vec<AllowedOrigin>,
    pub digester: Digester,
    pub index: Arc<Mutex<Index>>,
    pub hosts: HostLimiters,
    pub creations: Mutex<Creations>,
    pub leadership: Leadership,
    pub workers: Arc<Workers>,
    /// One permit for each KiB that may be rendered at once.
    pub rendering: Semaphore,
    pub metrics: Arc<Metrics>,
    pub clock: fn() -> Timestamp,
    /// What the API server's responses show of the clock.
    pub server_clock: Arc<ServerClock>,
    pub requeue: UnboundedSender<Key>,
    pub(super) events: Arc<Events>,
    pub revisions: Arc<Revisions>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Waits for a worker for the reconcile of a key that goes on: of those with a published token, and of those without,
    /// the one that came first.
    pub async fn resume(&self, key: &Key) -> Option<Worker> {
        let is_published = self.index().get(key).is_some_and(|resource| resource.report.expiration_time.is_some());
        self.workers.resume(key, is_published.then(|| self.now())).await
    }

    /// Waits until so many bytes may be rendered.
    pub async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = bytes.min(MAX_TARGET_BYTES).div_ceil(1024);
        self.rendering.acquire_many(u32::try_from(kib).unwrap_or(u32::MAX)).await.ok()
    }

    /// Returns the time after so many seconds.
    pub fn after(&self, seconds: i64) -> Timestamp {
        self.now().checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }

    /// Locks the index for a moment.
    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks what is known of creations for a moment.
    pub fn creations(&self) -> MutexGuard<'_, Creations> {
        self.creations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the client for a plan's portal.
    pub fn client(
        &self,
        plan: &Plan,
        ca: Option<&CaBundle>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<PortalClient, ClientError> {
        let origin_match = OriginMatch::of(&plan.portal, &self.allowed).unwrap_or(OriginMatch::Wildcard);
        self.portals.client(ca, certificate, origin_match)
    }
}
