//! The Lease of the leader election.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::client::MANAGER;
use super::error::{ApiError, bounded};

/// A holder has to notice in time that it cannot renew.
const CALL: Duration = Duration::from_secs(3);

/// The calls about one Lease.
pub struct Leases {
    api: Api<Lease>,
    name: String,
    namespace: String,
}

impl Leases {
    #[must_use]
    pub fn new(client: Client, namespace: String, name: String) -> Self {
        Self { api: Api::namespaced(client, &namespace), name, namespace }
    }

    /// The Lease, `None` where there is none.
    pub async fn get(&self) -> Result<Option<Lease>, ApiError> {
        soon(bounded(self.api.get_opt(&self.name))).await
    }

    /// Creates it; fails where there is one.
    pub async fn create(&self, mut lease: Lease) -> Result<Lease, ApiError> {
        lease.metadata.name = Some(self.name.clone());
        soon(bounded(self.api.create(&params(), &lease))).await
    }

    /// Replaces the version that it was made from.
    pub async fn replace(&self, lease: &Lease) -> Result<Lease, ApiError> {
        soon(bounded(self.api.replace(&self.name, &params(), lease))).await
    }
}

impl std::fmt::Display for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "leases.coordination.k8s.io {} in namespace {}", self.name, self.namespace)
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

async fn soon<T>(call: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    timeout(CALL, call).await.unwrap_or(Err(ApiError::TimedOut))
}
