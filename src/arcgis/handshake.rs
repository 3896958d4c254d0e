//! A connection of its own, step by step: name, connection, proxy, TLS. It sends no request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::certificate::Facts;
use super::client::{CONNECT, PortalClient};
use super::fault::{Failed, find, with_proxy};
use crate::api::{Cause, Fault, Reason};

/// A byte stream, with or without TLS to a proxy.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
type Connection = Box<dyn Stream>;

/// What a handshake has shown, whether it succeeded or not.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: Option<&'static str>,
    pub cipher_suite: Option<String>,
    /// The certificate that the server presented.
    pub certificate: Option<Facts>,
    /// Whether the server asks for a client certificate.
    pub asks_for_certificate: bool,
}

/// How one portal is connected to.
pub struct Route<'a> {
    client: &'a PortalClient,
    host: String,
    port: u16,
    proxy: Option<Intercept>,
}

impl<'a> Route<'a> {
    /// The connections to the portal with this base URL; `None` for what is no URL.
    #[must_use]
    pub fn new(client: &'a PortalClient, url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { client, host, port: uri.port_u16().unwrap_or(443), proxy: client.proxies.intercept(url) })
    }

    /// Host and port that the first connection leads to: those of the proxy, if there is one.
    #[must_use]
    pub fn first(&self) -> (String, u16) {
        match self.proxy.as_ref().map(Intercept::uri) {
            None => (self.host.clone(), self.port),
            Some(uri) => {
                let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
                let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
                (host.to_owned(), uri.port_u16().unwrap_or(default))
            }
        }
    }

    /// Names the proxy in what failed, where it may be at fault.
    #[must_use]
    pub fn named(&self, fault: Fault) -> Fault {
        with_proxy(fault, &self.client.proxies, &format!("https://{}:{}", bracketed(&self.host), self.port))
    }

    /// Whether a proxy is on the way.
    #[must_use]
    pub fn proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Resolves the name of [`Route::first`].
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, Fault> {
        let (host, port) = self.first();
        let found = self.client.resolver.addresses(&host).await?;
        Ok(found.into_iter().map(|at| SocketAddr::new(at.ip(), port)).collect())
    }

    /// Connects to one of these addresses.
    pub async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Fault> {
        let fault = match timeout(CONNECT, TcpStream::connect(addresses)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => known(&error).unwrap_or_else(closed),
            Err(_) => timed_out(),
        };
        Err(if self.proxied() { Fault::new(Reason::PortalUnreachable, Cause::ProxyUnreachable) } else { fault })
    }

    /// Has the proxy open a connection to the portal; without a proxy there is nothing to do.
    async fn tunnel(&self, stream: TcpStream) -> Result<Connection, Fault> {
        let Some(proxy) = &self.proxy else { return Ok(Box::new(stream)) };
        let connection: Connection = if proxy.uri().scheme_str() == Some("https") {
            Box::new(self.secure_proxy(stream).await?)
        } else {
            Box::new(stream)
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), Connected(Some(connection)));
        if let Some(login) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(login.clone());
        }
        let portal = format!("https://{}:{}", bracketed(&self.host), self.port).parse().map_err(|_| closed())?;
        let opened = timeout(CONNECT, tunnel.call(portal)).await.map_err(|_| timed_out())?;
        opened.map(|io| Box::new(TokioIo::new(io)) as Connection).map_err(|error| known(&error).unwrap_or_else(closed))
    }

    async fn secure_proxy(&self, stream: TcpStream) -> Result<impl Stream + use<>, Fault> {
        let unreachable = || Fault::new(Reason::PortalUnreachable, Cause::ProxyUnreachable);
        let name = ServerName::try_from(self.first().0).map_err(|_| unreachable())?;
        let mut config = ClientConfig::clone(&self.client.tls);
        config.alpn_protocols.clear();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        timeout(CONNECT, connecting).await.map_err(|_| unreachable())?.map_err(|_| unreachable())
    }

    /// Makes a handshake on a connection to the portal or its proxy, and ends it. With what it has shown, also when it fails.
    pub async fn handshake(&self, stream: TcpStream) -> (Session, Result<(), Fault>) {
        let connection = match self.tunnel(stream).await {
            Ok(connection) => connection,
            Err(fault) => return (Session::default(), Err(fault)),
        };
        let Ok(name) = ServerName::try_from(self.host.clone()) else { return (Session::default(), Err(closed())) };
        let notes = Arc::new(Notes::default());
        let config = observed(&self.client.tls, self.client.verifier.clone(), &notes);
        let shaken = timeout(CONNECT, TlsConnector::from(Arc::new(config)).connect(name, connection)).await;
        let mut session = notes.session();
        let failed = match shaken {
            Err(_) => timed_out(),
            Ok(Err(error)) => {
                let found = find(&error).unwrap_or_else(|| Failed::Known(closed()));
                found.resolve(Some(session.asks_for_certificate))
            }
            Ok(Ok(stream)) => {
                let (_, tls) = stream.get_ref();
                session.version = match tls.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_2) => Some("TLS 1.2"),
                    Some(rustls::ProtocolVersion::TLSv1_3) => Some("TLS 1.3"),
                    _ => None,
                };
                session.cipher_suite = tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
                return (session, Ok(()));
            }
        };
        (session, Err(failed))
    }

    /// Whether the server asks for a client certificate, as one more connection shows; `None` if that does not get so far.
    pub(super) async fn asks_for_certificate(&self) -> Option<bool> {
        let shake = async {
            let stream = self.connect(&self.resolve().await.ok()?).await.ok()?;
            let (session, result) = self.handshake(stream).await;
            let seen = result.is_ok() || session.certificate.is_some() || session.asks_for_certificate;
            let refused = matches!(&result, Err(fault) if fault.reason == Reason::RequestRejected);
            (seen || refused).then_some(session.asks_for_certificate)
        };
        timeout(CONNECT + Duration::from_secs(1), shake).await.ok().flatten()
    }
}

fn timed_out() -> Fault {
    Fault::new(Reason::PortalUnreachable, Cause::ConnectTimeout)
}

fn closed() -> Fault {
    Fault::new(Reason::PortalUnreachable, Cause::ConnectionClosed)
}

fn known(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    find(error).map(|found| found.resolve(None))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Hands a connection that exists to the tunnel.
struct Connected(Option<Connection>);

impl Service<Uri> for Connected {
    type Response = TokioIo<Connection>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let used = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        std::future::ready(self.0.take().map(TokioIo::new).ok_or_else(used))
    }
}

/// What happens in one handshake.
#[derive(Debug, Default)]
struct Notes {
    asked: AtomicBool,
    leaf: Mutex<Option<CertificateDer<'static>>>,
}

impl Notes {
    fn session(&self) -> Session {
        let leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        Session {
            certificate: leaf.as_ref().and_then(|leaf| Facts::read(leaf)),
            asks_for_certificate: self.asked.load(Ordering::Relaxed),
            ..Session::default()
        }
    }
}

/// The same configuration, which takes notes.
fn observed(config: &ClientConfig, verifier: Arc<dyn ServerCertVerifier>, notes: &Arc<Notes>) -> ClientConfig {
    let mut config = config.clone();
    // A resumed session has neither a certificate nor a request for one.
    config.resumption = rustls::client::Resumption::disabled();
    let certificates = config.client_auth_cert_resolver.clone();
    config.client_auth_cert_resolver = Arc::new(Asked { notes: notes.clone(), certificates });
    config.dangerous().set_certificate_verifier(Arc::new(Presented { notes: notes.clone(), verifier }));
    config
}

/// Notes that a server asks for a client certificate.
#[derive(Debug)]
struct Asked {
    notes: Arc<Notes>,
    certificates: Arc<dyn ResolvesClientCert>,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.notes.asked.store(true, Ordering::Relaxed);
        self.certificates.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        self.certificates.has_certs()
    }
}

/// Notes which certificate a server presents, and verifies it like the verifier in use.
#[derive(Debug)]
struct Presented {
    notes: Arc<Notes>,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Presented {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.notes.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.clone().into_owned());
        self.verifier.verify_server_cert(leaf, intermediates, server, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
