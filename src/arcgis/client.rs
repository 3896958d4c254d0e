//! HTTPS clients: one per set of trusted roots, each with its own connections.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Client, redirect, retry};
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::client_certificate::ClientCertificate;
use super::guard::ServiceRanges;
use super::proxy::Proxies;
use super::resolver::Resolver;
use super::trust::{SystemRoots, Trust};
use crate::api::Cause;
use crate::core::OriginMatch;

pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// The time for one exchange in all.
pub(super) const TOTAL: Duration = Duration::from_secs(15);
/// Shorter than common server limits, of which that of Apache is 5 s: a connection closed while it is used again would cost
/// an attempt.
const IDLE: Duration = Duration::from_secs(4);
/// Each has a set of roots, a client certificate or a match of its own. One more replaces the one used least recently.
const MAX_CLIENTS: usize = 512;
const MAX_BUNDLE: usize = 1024 * 1024;
const MAX_CERTIFICATES: usize = 512;
/// Of UTF-8, which some editors write before the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a bundle cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CaBundleError {
    #[error("it is empty")]
    Empty,
    #[error("no certificate in PEM")]
    NotPem,
    #[error("more than {MAX_CERTIFICATES} certificates or 1 MiB")]
    TooLarge,
}

impl CaBundleError {
    /// The cause to report.
    #[must_use]
    pub const fn cause(self) -> Cause {
        match self {
            Self::Empty => Cause::Empty,
            Self::NotPem => Cause::NotPem,
            Self::TooLarge => Cause::TooLarge,
        }
    }
}

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
        let pem = pem.strip_prefix(BYTE_ORDER_MARK).unwrap_or(pem);
        if pem.trim_ascii().is_empty() {
            return Err(CaBundleError::Empty);
        }
        if pem.len() > MAX_BUNDLE {
            return Err(CaBundleError::TooLarge);
        }
        let mut hash = Sha256::new();
        let mut certificates = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok) {
            let mut roots = rustls::RootCertStore::empty();
            if roots.add(der.clone()).is_err() {
                continue;
            }
            if certificates.len() == MAX_CERTIFICATES {
                return Err(CaBundleError::TooLarge);
            }
            hash.update(der.len().to_be_bytes());
            hash.update(&der);
            certificates.push(der);
        }
        if certificates.is_empty() {
            return Err(CaBundleError::NotPem);
        }
        Ok(Self { certificates, fingerprint: hash.finalize().into() })
    }
}

/// The client of portals with these roots, this client certificate and this match with the allow-list.
#[derive(Clone)]
pub struct PortalClient {
    pub(super) http: Client,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) verifier: Arc<dyn ServerCertVerifier>,
    pub(super) resolver: Resolver,
    pub(super) proxies: Proxies,
}

/// The clients in use, the most recently used last.
pub struct Portals {
    operator: RwLock<Vec<CertificateDer<'static>>>,
    system: RwLock<SystemRoots>,
    services: ServiceRanges,
    proxies: Proxies,
    clients: Mutex<Vec<(ClientId, PortalClient)>>,
}

impl Portals {
    /// With the roots that the operator trusts for every portal in addition to the system's, the service addresses of the
    /// cluster, and the proxies in use.
    pub fn new(operator: Option<CaBundle>, services: ServiceRanges, proxies: Proxies) -> Result<Self, ClientError> {
        let operator = operator.map(|bundle| bundle.certificates).unwrap_or_default();
        let (operator, system) = (RwLock::new(operator), RwLock::new(system_roots()));
        let portals = Self { operator, system, services, proxies, clients: Mutex::default() };
        portals.client(None, None, OriginMatch::Exact)?;
        Ok(portals)
    }

    /// Replaces the roots that the operator trusts for every portal. Requests in flight keep their connections.
    pub fn set_roots(&self, bundle: CaBundle) {
        *self.system.write().unwrap_or_else(PoisonError::into_inner) = system_roots();
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
    ) -> Result<PortalClient, ClientError> {
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

    /// How many clients share the system's roots.
    #[cfg(test)]
    pub(super) fn shares(&self) -> usize {
        self.system.read().unwrap().as_ref().map_or(0, |system| Arc::strong_count(system) - 1)
    }

    /// How many clients there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len()
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
    ) -> Result<PortalClient, Box<dyn std::error::Error + Send + Sync>> {
        let operator = self.operator.read().unwrap_or_else(PoisonError::into_inner);
        let extra = operator.iter().chain(bundle.iter().flat_map(|bundle| &bundle.certificates));
        let system = self.system.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (tls, verifier) = tls(system, extra, certificate)?;
        let resolver = Resolver {
            guard: (origin_match == OriginMatch::Wildcard).then(|| self.services.clone()),
            proxy: self.proxies.host().map(Into::into),
        };
        let builder = Client::builder()
            .user_agent(concat!("arcgis-credential-operator/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .pool_idle_timeout(IDLE)
            .tls_backend_preconfigured(tls.clone())
            // With each response comes the certificate of the server.
            .tls_info(true)
            .dns_resolver(Arc::new(resolver.clone()))
            // The environment was read when the process started.
            .no_proxy();
        let builder = match self.proxies.for_client() {
            Some(proxy) => builder.proxy(proxy),
            None => builder,
        };
        let http = builder.build()?;
        Ok(PortalClient { http, tls: Arc::new(tls), verifier, resolver, proxies: self.proxies.clone() })
    }
}

fn system_roots() -> SystemRoots {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Verifier::new(provider).ok().map(Arc::new)
}

/// Returns what reqwest configures by itself, with a verifier of its own, and with a client certificate, whose key reqwest
/// would copy without zeroizing the copy. To name a verifier takes a method that is called `dangerous`.
fn tls<'a>(
    system: SystemRoots,
    extra: impl Iterator<Item = &'a CertificateDer<'static>>,
    certificate: Option<&ClientCertificate>,
) -> Result<(ClientConfig, Arc<dyn ServerCertVerifier>), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust: Arc<dyn ServerCertVerifier> = Arc::new(Trust::new(system, extra, provider.clone())?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(trust.clone());
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => builder.with_client_cert_resolver(certificate.resolver.clone()),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, trust))
}
