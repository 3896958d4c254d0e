//! Name resolution with a time limit of its own: a DNS server that does not answer looks like a dropped connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;

use super::guard::{ServiceRanges, reachable};

/// DNS servers answer within milliseconds, and those that do not are asked again within seconds.
const LIMIT: Duration = Duration::from_secs(3);

/// Why a name leads to no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum ResolveError {
    #[error("the name does not resolve")]
    Failed,
    #[error("the name of the proxy does not resolve")]
    Proxy,
    #[error("a wildcard does not reach what the name resolves to")]
    NotAllowed,
}

/// Resolves names; for a portal that only a wildcard allows, without the addresses that a wildcard does not reach.
#[derive(Clone)]
pub(super) struct Resolver {
    /// Set for portals that only a wildcard allows.
    pub guard: Option<ServiceRanges>,
    /// The host of the proxy, which an administrator has chosen.
    pub proxy: Option<Arc<str>>,
}

impl Resolver {
    /// The addresses of a host.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let proxy = self.proxy.as_deref() == Some(host);
        let failed = if proxy { ResolveError::Proxy } else { ResolveError::Failed };
        let found = timeout(LIMIT, tokio::net::lookup_host((host, 0))).await.map_err(|_| failed)?;
        let found: Vec<SocketAddr> = found.map_err(|_| failed)?.collect();
        let Some(services) = self.guard.as_ref().filter(|_| !proxy) else { return Ok(found) };
        let allowed: Vec<SocketAddr> = found.into_iter().filter(|at| reachable(at.ip(), services)).collect();
        if allowed.is_empty() {
            warn!(portal = host, "a wildcard does not reach what this name resolves to: list its origin exactly");
            return Err(ResolveError::NotAllowed);
        }
        Ok(allowed)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_below_a_wildcard_unless_it_is_a_proxy_s() {
        let resolver = |guard: bool, proxy: Option<&str>| Resolver {
            guard: guard.then(ServiceRanges::default),
            proxy: proxy.map(Into::into),
        };
        assert_eq!(resolver(true, None).addresses("localhost").await, Err(ResolveError::NotAllowed));
        assert!(resolver(true, Some("localhost")).addresses("localhost").await.is_ok());
        assert!(resolver(false, None).addresses("localhost").await.is_ok());
        assert_eq!(resolver(false, None).addresses("no-such-name.invalid").await, Err(ResolveError::Failed));
    }
}
