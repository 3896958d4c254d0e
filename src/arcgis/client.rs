//! HTTPS clients: one per set of trusted roots, each with its own connections.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Certificate, Client, redirect, retry};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::client_certificate::ClientCertificate;
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
pub struct ClientError(#[source] Box<dyn std::error::Error + Send + Sync>);

type Fingerprint = [u8; 32];
/// What a client is made for: roots, client certificate, and how the portal is allowed.
type ClientId = (Fingerprint, Option<Fingerprint>, OriginMatch);

/// Extra trusted roots; two are equal with the same certificates in the same order.
#[derive(Clone)]
pub struct CaBundle {
    certificates: Vec<CertificateDer<'static>>,
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
                certificates.push(der);
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
    operator: RwLock<Vec<CertificateDer<'static>>>,
    services: ServiceRanges,
    proxies: Arc<[String]>,
    clients: Mutex<Vec<(ClientId, Client)>>,
}

impl Portals {
    /// With the roots that the operator trusts for every portal in addition to the system's, the service addresses of the
    /// cluster, and the hosts of the proxies in use.
    pub fn new(operator: Option<CaBundle>, services: ServiceRanges, proxies: Vec<String>) -> Result<Self, ClientError> {
        let operator = operator.map(|bundle| bundle.certificates).unwrap_or_default();
        let portals =
            Self { operator: RwLock::new(operator), services, proxies: proxies.into(), clients: Mutex::default() };
        portals.client(None, None, OriginMatch::Exact)?;
        Ok(portals)
    }

    /// Replaces the roots that the operator trusts for every portal. Requests in flight keep their connections.
    pub fn set_roots(&self, bundle: CaBundle) {
        *self.operator.write().unwrap_or_else(PoisonError::into_inner) = bundle.certificates;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the client that also trusts these roots and has this certificate, for portals that match the allow-list like
    /// this.
    pub fn client(
        &self,
        bundle: Option<&CaBundle>,
        certificate: Option<&ClientCertificate>,
        origin_match: OriginMatch,
    ) -> Result<Client, ClientError> {
        let roots = bundle.map_or([0; 32], |bundle| bundle.fingerprint);
        let id = (roots, certificate.map(|certificate| certificate.fingerprint), origin_match);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match clients.iter().position(|(known, _)| *known == id) {
            Some(at) => clients.remove(at),
            None => (id, self.build(bundle, certificate, origin_match).map_err(ClientError)?),
        };
        if clients.len() >= MAX_CLIENTS {
            clients.remove(0);
        }
        let client = found.1.clone();
        clients.push(found);
        Ok(client)
    }

    /// How many clients there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len()
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

    fn build(
        &self,
        bundle: Option<&CaBundle>,
        certificate: Option<&ClientCertificate>,
        origin_match: OriginMatch,
    ) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
        let operator = self.operator.read().unwrap_or_else(PoisonError::into_inner);
        let extra = operator.iter().chain(bundle.iter().flat_map(|bundle| &bundle.certificates));
        let builder = Client::builder()
            .user_agent(concat!("arcgis-credential-operator/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .pool_idle_timeout(IDLE);
        let builder = match certificate {
            None => builder.tls_certs_merge(extra.filter_map(|der| Certificate::from_der(der).ok())),
            Some(certificate) => builder.tls_backend_preconfigured(with_certificate(extra.cloned(), certificate)?),
        };
        let client = match origin_match {
            OriginMatch::Exact => builder,
            OriginMatch::Wildcard => builder
                .dns_resolver(Arc::new(Guarded { services: self.services.clone(), proxies: self.proxies.clone() })),
        }
        .build()?;
        Ok(client)
    }
}

/// Returns what reqwest configures by itself, with a client certificate: reqwest would keep a copy of the key that is not
/// zeroized. The verifier is the same; to name it takes a method that is called `dangerous`.
fn with_certificate(
    extra: impl Iterator<Item = CertificateDer<'static>>,
    certificate: &ClientCertificate,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra, provider.clone())?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(certificate.resolver.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
