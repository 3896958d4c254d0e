//! What the error of a connection or of a request says: its chain of causes distinguishes what looks the same.

use std::error::Error;
use std::io::ErrorKind;

use rustls::AlertDescription as Alert;

use super::proxy::Proxies;
use super::resolver::ResolveError;
use super::trust::Untrusted;
use crate::api::{Cause, Fault, Reason, Seen};

/// What failed, as far as one connection shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Known(Fault),
    /// The server ended the handshake with an alert that is about a missing client certificate or about TLS parameters.
    Handshake,
}

/// What an error of a request to a portal says.
pub(super) fn failed(error: &reqwest::Error, proxies: &Proxies, url: &str) -> Failed {
    match find(error) {
        Some(Failed::Known(fault)) => Failed::Known(with_proxy(fault, proxies, url)),
        Some(Failed::Handshake) => Failed::Handshake,
        None => {
            let cause = match (error.is_timeout(), error.is_connect()) {
                (true, true) => Cause::ConnectTimeout,
                (true, false) => Cause::ResponseTimeout,
                (false, _) => Cause::ConnectionClosed,
            };
            Failed::Known(with_proxy(unreachable(cause), proxies, url))
        }
    }
}

/// Names the proxy where it may be at fault.
pub(super) fn with_proxy(fault: Fault, proxies: &Proxies, url: &str) -> Fault {
    match fault.cause {
        Some(Cause::ConnectTimeout | Cause::ProxyUnreachable | Cause::ProxyRejected) => fault.named(proxies.name(url)),
        _ => fault,
    }
}

/// What the chain of an error says, the outermost first.
pub(super) fn find(error: &(dyn Error + 'static)) -> Option<Failed> {
    // An error of TLS may stand below one that only says that the connection ended.
    causes(error).find_map(specific).or_else(|| causes(error).find_map(general).map(Failed::Known))
}

fn unreachable(cause: Cause) -> Fault {
    Fault::new(Reason::PortalUnreachable, cause)
}

/// What an error of a tunnel says. Its type is private, its text is fixed.
fn tunnel(error: &(dyn Error + 'static)) -> Option<Fault> {
    let text = error.to_string();
    let said = text.strip_prefix("tunnel error: ")?;
    if said == "failed to create underlying connection" {
        // A time-out is that of the whole connection.
        return Some(unreachable(Cause::ProxyUnreachable));
    }
    let mut fault = unreachable(Cause::ProxyRejected);
    fault.seen.number = (said == "proxy authorization required").then_some(407);
    Some(fault)
}

fn specific(error: &(dyn Error + 'static)) -> Option<Failed> {
    if let Some(fault) = tunnel(error) {
        return Some(Failed::Known(fault));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    error.downcast_ref::<ResolveError>().map(|error| Failed::Known((*error).into()))
}

fn general(error: &(dyn Error + 'static)) -> Option<Fault> {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return http(error);
    }
    let error = error.downcast_ref::<std::io::Error>()?;
    // What it wraps says more.
    if error.get_ref().is_some() {
        return None;
    }
    io(error.kind()).map(unreachable)
}

impl From<ResolveError> for Fault {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Failed => unreachable(Cause::NameNotResolved),
            ResolveError::Proxy => unreachable(Cause::ProxyUnreachable),
            ResolveError::NotAllowed => Fault::new(Reason::PortalNotAllowed, Cause::AddressNotAllowed),
        }
    }
}

fn http(error: &hyper::Error) -> Option<Fault> {
    let malformed = |cause| Some(Fault::new(Reason::MalformedResponse, cause));
    if error.is_parse_too_large() {
        malformed(Cause::TooLarge)
    } else if error.is_parse() {
        malformed(Cause::Truncated)
    } else if error.is_incomplete_message() || error.is_canceled() {
        Some(unreachable(Cause::ConnectionClosed))
    } else {
        None
    }
}

fn io(kind: ErrorKind) -> Option<Cause> {
    Some(match kind {
        ErrorKind::ConnectionRefused => Cause::ConnectionRefused,
        // A firewall of this machine refuses with a missing permission.
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::PermissionDenied
        | ErrorKind::AddrNotAvailable => Cause::NoRoute,
        ErrorKind::TimedOut => Cause::ConnectTimeout,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Cause::ConnectionClosed,
        _ => return None,
    })
}

fn tls(error: &rustls::Error) -> Failed {
    use rustls::{Error as E, PeerIncompatible as P};
    if let Some(untrusted) = Untrusted::find(error) {
        return Failed::Known(Fault::new(Reason::PortalUntrusted, untrusted.cause).date(untrusted.date));
    }
    Failed::Known(match error {
        E::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => return Failed::Handshake,
        E::AlertReceived(alert) if is_about_certificate(*alert) => {
            Fault::new(Reason::RequestRejected, Cause::ClientCertificateRequired)
        }
        E::AlertReceived(Alert::ProtocolVersion)
        | E::InvalidMessage(_)
        | E::PeerIncompatible(
            P::ServerDoesNotSupportTls12Or13 | P::ServerTlsVersionIsDisabledByOurConfig | P::Tls12NotOfferedOrEnabled,
        ) => unreachable(Cause::NotTls),
        E::PeerIncompatible(_) => Fault::new(Reason::RequestRejected, Cause::NoCommonTls),
        _ => unreachable(Cause::ConnectionClosed),
    })
}

/// Whether a server ends a handshake like this because there is no client certificate, or not one that it accepts.
fn is_about_certificate(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}

/// Whether a connection ended before any of the request was sent, and without an alert.
pub(super) fn was_not_sent(error: &reqwest::Error) -> bool {
    let canceled =
        |cause: &(dyn Error + 'static)| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
    let closed = Failed::Known(unreachable(Cause::ConnectionClosed));
    causes(error).any(canceled) && find(error).is_none_or(|found| found == closed)
}

/// An error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |current| {
        let current: &'a (dyn Error + 'static) = *current;
        match current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        }
    })
}

impl Failed {
    /// With what another handshake has shown: whether the server asks for a client certificate.
    pub(super) fn resolve(self, asked: Option<bool>) -> Fault {
        match (self, asked) {
            (Self::Known(fault), _) => fault,
            (Self::Handshake, Some(true)) => Fault::new(Reason::RequestRejected, Cause::ClientCertificateRequired),
            (Self::Handshake, Some(false)) => Fault::new(Reason::RequestRejected, Cause::NoCommonTls),
            (Self::Handshake, None) => Fault { reason: Reason::RequestRejected, cause: None, seen: Seen::default() },
        }
    }
}
