//! HTTPS on loopback with a temporary CA, for the test portal and the fault-injecting proxy.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::{Error, doing};

/// The certificate that is presented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    #[default]
    Good,
    Expired,
    WrongHost,
    SelfSigned,
    /// A good one that is also for this address.
    For(IpAddr),
}

/// The TLS versions that are supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Any,
    Tls12,
    Tls13,
}

impl Protocol {
    fn versions(self) -> Vec<&'static rustls::SupportedProtocolVersion> {
        match self {
            Self::Any => rustls::ALL_VERSIONS.to_vec(),
            Self::Tls12 => vec![&rustls::version::TLS12],
            Self::Tls13 => vec![&rustls::version::TLS13],
        }
    }
}

/// Marks a response that is not sent: the connection is closed instead.
#[derive(Clone)]
struct Closed;

/// Returns a response that closes the connection.
pub(crate) fn closed() -> Response {
    let mut response = StatusCode::OK.into_response();
    response.extensions_mut().insert(Closed);
    response
}

/// Serves until dropped, together with its connections.
pub(crate) async fn serve(listener: TcpListener, tls: ServerConfig, router: Router) {
    accept(listener, tls, move |stream| {
        let router = router.clone();
        async move {
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let router = router.clone();
                async move {
                    let response = router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {});
                    match response.extensions().get::<Closed>() {
                        Some(Closed) => Err(Error("closed on purpose".to_owned())),
                        None => Ok(response),
                    }
                }
            });
            // An error is intended by the test, or caused by the client.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
}

/// Handles each connection until dropped.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    tls: ServerConfig,
    handle: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + 'static,
) {
    let tls = TlsAcceptor::from(Arc::new(tls));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let (tls, handle) = (tls.clone(), handle.clone());
                connections.spawn(async move {
                    // As web servers do: else the first response waits for the acknowledgment of the session tickets.
                    if stream.set_nodelay(true).is_err() {
                        return;
                    }
                    if let Ok(stream) = tls.accept(stream).await {
                        handle(stream).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns a CA in PEM, and a server configuration with a certificate that this CA signed, or with a defective one.
pub(crate) fn identity(certificate: Certificate, protocol: Protocol) -> Result<(String, ServerConfig), Error> {
    identity_for(certificate, protocol, None)
}

/// The same, for clients with a certificate of this CA, in PEM.
pub(crate) fn identity_for(
    certificate: Certificate,
    protocol: Protocol,
    clients: Option<&str>,
) -> Result<(String, ServerConfig), Error> {
    let made = signed(certificate).map_err(doing("making a certificate"))?;
    let config = ServerConfig::builder_with_protocol_versions(&protocol.versions());
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(pem) => config.with_client_cert_verifier(verifier(pem)?),
    };
    let config = config.with_single_cert(vec![made.leaf], made.key).map_err(doing("setting up TLS"))?;
    Ok((made.ca, config))
}

/// A server configuration with a certificate, its chain and its private key, in PEM.
pub(crate) fn presenting(chain: &str, key: &str) -> Result<ServerConfig, Error> {
    let read = doing::<rustls::pki_types::pem::Error>;
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(read("reading a certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(read("reading a key"))?;
    let config = ServerConfig::builder().with_no_client_auth();
    config.with_single_cert(chain, key).map_err(doing("setting up TLS"))
}

struct Signed {
    /// In PEM.
    ca: String,
    leaf: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn signed(certificate: Certificate) -> Result<Signed, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    // Issuer and subject of the leaf must differ, or OpenSSL treats it as self-signed.
    ca.distinguished_name.push(rcgen::DnType::CommonName, "test portal CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names(certificate))?;
    if certificate == Certificate::Expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let leaf = match certificate {
        Certificate::SelfSigned => params.self_signed(&key),
        _ => params.signed_by(&key, &Issuer::new(ca, ca_key)),
    }?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Signed { ca: ca_cert.pem(), leaf: leaf.der().clone(), key })
}

/// Returns the names in a certificate.
fn names(certificate: Certificate) -> Vec<String> {
    let here = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    match certificate {
        Certificate::WrongHost => vec!["elsewhere.example.com".to_owned()],
        Certificate::For(address) => here.into_iter().chain([address.to_string()]).collect(),
        _ => here.into(),
    }
}

/// Requires a certificate of this CA.
fn verifier(ca: &str) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(der.map_err(doing("reading a CA"))?).map_err(doing("reading a CA"))?;
    }
    WebPkiClientVerifier::builder(roots.into()).build().map_err(doing("setting up TLS"))
}
