//! HTTPS clients: one per set of trusted roots, each with its own connections.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Certificate, Client, redirect, retry};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::guard::{Guarded, ServiceRanges};
use crate::core::OriginMatch;

const CONNECT: Duration = Duration::from_secs(5);
/// The time for one exchange in all.
pub(super) const TOTAL: Duration = Duration::from_secs(15);
/// Shorter than common server limits: a connection closed while it is used again would cost an attempt.
const IDLE: Duration = Duration::from_secs(15);
const MAX_CLIENTS: usize = 64;
const MAX_BUNDLE: usize = 1024 * 1024;
const MAX_CERTIFICATES: usize = 512;

/// A bundle without a usable certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no certificate in PEM")]
pub struct CaBundleError;

/// The TLS client cannot be set up, most often because there are no system roots.
#[derive(Debug, Error)]
#[error("cannot set up TLS: are CA certificates installed (SSL_CERT_FILE)?")]
pub struct ClientError(#[source] reqwest::Error);

type Fingerprint = [u8; 32];

/// Extra trusted roots; two are equal with the same certificates in the same order.
#[derive(Clone)]
pub struct CaBundle {
    certificates: Vec<Certificate>,
    fingerprint: Fingerprint,
}

impl PartialEq for CaBundle {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl CaBundle {
    /// Reads certificates in PEM format; anything else in it is ignored.
    pub fn parse(pem: &[u8]) -> Result<Self, CaBundleError> {
        if pem.len() > MAX_BUNDLE {
            return Err(CaBundleError);
        }
        let mut hash = Sha256::new();
        let mut certificates = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).take(MAX_CERTIFICATES) {
            let mut roots = rustls::RootCertStore::empty();
            if roots.add(der.clone()).is_ok() {
                hash.update(der.len().to_be_bytes());
                hash.update(&der);
                certificates.extend(Certificate::from_der(&der));
            }
        }
        if certificates.is_empty() {
            return Err(CaBundleError);
        }
        Ok(Self { certificates, fingerprint: hash.finalize().into() })
    }
}

/// The clients in use, the most recently used last.
pub struct Portals {
    operator: RwLock<Vec<Certificate>>,
    services: ServiceRanges,
    proxies: Arc<[String]>,
    clients: Mutex<Vec<((Fingerprint, OriginMatch), Client)>>,
}

impl Portals {
    /// With the roots that the operator trusts for every portal in addition to the system's, the service addresses of the
    /// cluster, and the hosts of the proxies in use.
    pub fn new(operator: Option<CaBundle>, services: ServiceRanges, proxies: Vec<String>) -> Result<Self, ClientError> {
        let operator = operator.map(|bundle| bundle.certificates).unwrap_or_default();
        let portals =
            Self { operator: RwLock::new(operator), services, proxies: proxies.into(), clients: Mutex::default() };
        portals.client(None, OriginMatch::Exact)?;
        Ok(portals)
    }

    /// Replaces the roots that the operator trusts for every portal. Requests in flight keep their connections.
    pub fn set_roots(&self, bundle: CaBundle) {
        *self.operator.write().unwrap_or_else(PoisonError::into_inner) = bundle.certificates;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the client that also trusts these roots, for portals that match the allow-list like this.
    pub fn client(&self, bundle: Option<&CaBundle>, origin_match: OriginMatch) -> Result<Client, ClientError> {
        let id = (bundle.map_or([0; 32], |bundle| bundle.fingerprint), origin_match);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match clients.iter().position(|(known, _)| *known == id) {
            Some(at) => clients.remove(at),
            None => (id, self.build(bundle, origin_match).map_err(ClientError)?),
        };
        if clients.len() >= MAX_CLIENTS {
            clients.remove(0);
        }
        let client = found.1.clone();
        clients.push(found);
        Ok(client)
    }

    /// Whether the environment sets a proxy.
    #[must_use]
    pub fn proxied(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// The service addresses of the cluster.
    #[must_use]
    pub fn services(&self) -> &ServiceRanges {
        &self.services
    }

    fn build(&self, bundle: Option<&CaBundle>, origin_match: OriginMatch) -> reqwest::Result<Client> {
        let operator = self.operator.read().unwrap_or_else(PoisonError::into_inner);
        let extra = operator.iter().chain(bundle.iter().flat_map(|bundle| &bundle.certificates));
        let builder = Client::builder()
            .user_agent(concat!("arcgis-credential-operator/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .pool_idle_timeout(IDLE)
            .tls_certs_merge(extra.cloned());
        match origin_match {
            OriginMatch::Exact => builder,
            OriginMatch::Wildcard => builder
                .dns_resolver(Arc::new(Guarded { services: self.services.clone(), proxies: self.proxies.clone() })),
        }
        .build()
    }
}
