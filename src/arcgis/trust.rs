//! Which servers are trusted: the platform's verifier first, then the certificates that stand in a bundle themselves.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;

use super::certificate::Facts;
use crate::api::Cause;

/// Why a server's certificate is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untrusted {
    pub cause: Cause,
    /// The end or the begin of its validity, where that is the cause.
    pub date: Option<Timestamp>,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.as_str())
    }
}

impl std::error::Error for Untrusted {}

impl From<Cause> for Untrusted {
    fn from(cause: Cause) -> Self {
        Self { cause, date: None }
    }
}

impl From<Untrusted> for Error {
    fn from(untrusted: Untrusted) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(untrusted))))
    }
}

impl Untrusted {
    /// Finds it in an error of TLS.
    pub(super) fn find(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                Some(other.0.downcast_ref::<Self>().copied().unwrap_or(Cause::Other.into()))
            }
            Error::InvalidCertificate(error) => Some(untrusted(error, None)),
            _ => None,
        }
    }
}

/// The system's roots, which all clients share: to read them takes milliseconds. `None` where there are none.
pub(super) type SystemRoots = Option<Arc<Verifier>>;

/// Verifies servers with the system's roots and the certificates of bundles.
#[derive(Debug)]
pub(super) struct Trust {
    system: SystemRoots,
    /// The trust anchors of bundles; `None` where there are none.
    anchors: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// With these certificates beside the system's roots. Each vouches for itself; one that is no certificate of a server
    /// alone is a trust anchor, too.
    pub(super) fn new<'a>(
        system: SystemRoots,
        certificates: impl Iterator<Item = &'a CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let pinned: Vec<_> = certificates.cloned().collect();
        if system.is_none() && pinned.is_empty() {
            return Err(Error::General("there are no CA certificates".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pinned.iter().filter(|der| is_anchor(der)).cloned());
        let verifier = |roots| WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        let anchors = Some(roots).filter(|roots| !roots.is_empty()).map(|roots| verifier(Arc::new(roots))).transpose();
        let anchors = anchors.map_err(|error| Error::Other(OtherError(Arc::new(error))))?;
        Ok(Self { system, anchors, pinned, provider })
    }

    /// The same checks as for any certificate, except for its issuer; without a subject alternative name the common name
    /// counts.
    fn verify_pinned(leaf: &CertificateDer<'_>, server: &ServerName<'_>, now: UnixTime) -> Result<(), Untrusted> {
        // Rejects what the platform's verifier does not read, such as version 1 or an unknown critical extension.
        let parsed = ParsedCertificate::try_from(leaf).map_err(|_| unreadable(leaf))?;
        let facts = Facts::read(leaf).ok_or(Cause::Other)?;
        verify_dates(&facts, now)?;
        if !facts.for_servers || !facts.for_handshakes {
            return Err(Cause::WrongPurpose.into());
        }
        verify_server_name(&parsed, server).or_else(|_| verify_common_name(&facts, server))
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let system = self.system.as_deref().map(|system| -> &dyn ServerCertVerifier { system });
        let anchors = self.anchors.as_deref().map(|anchors| -> &dyn ServerCertVerifier { anchors });
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let mut error = unknown.clone();
        for verifier in [system, anchors].into_iter().flatten() {
            match verifier.verify_server_cert(leaf, intermediates, server, ocsp, now) {
                Ok(verified) => return Ok(verified),
                // Those that know the issuer say what is wrong.
                Err(found) if found != unknown => error = found,
                Err(_) => {}
            }
        }
        if self.pinned.iter().any(|pinned| pinned.as_ref() == leaf.as_ref()) {
            Self::verify_pinned(leaf, server, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        Err(match &error {
            Error::InvalidCertificate(reason) => untrusted(reason, Some(leaf)).into(),
            _ => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The common name counts only where there is no subject alternative name.
fn verify_common_name(facts: &Facts, server: &ServerName<'_>) -> Result<(), Untrusted> {
    if facts.has_alternative_names {
        return Err(Cause::OtherName.into());
    }
    if facts.is_named(&server.to_str()) { Ok(()) } else { Err(Cause::NoName.into()) }
}

fn verify_dates(facts: &Facts, now: UnixTime) -> Result<(), Untrusted> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < facts.not_before.as_second() {
        return Err(Untrusted { cause: Cause::NotYetValid, date: Some(facts.not_before) });
    }
    if now > facts.not_after.as_second() {
        return Err(Untrusted { cause: Cause::Expired, date: Some(facts.not_after) });
    }
    Ok(())
}

/// Whether a certificate of a bundle is a trust anchor. One of version 3 without CA:TRUE vouches for itself alone.
fn is_anchor(der: &CertificateDer<'_>) -> bool {
    Facts::read(der).is_none_or(|facts| facts.ca || !facts.version_3)
}

fn unreadable(leaf: &CertificateDer<'_>) -> Untrusted {
    let old = Facts::read(leaf).is_some_and(|facts| !facts.version_3);
    if old { Cause::Unsupported } else { Cause::Other }.into()
}

/// What an error of the platform's verifier says, and what only the certificate says.
#[allow(deprecated, reason = "a verifier may still return the forms without context")]
fn untrusted(error: &CertificateError, leaf: Option<&CertificateDer<'_>>) -> Untrusted {
    use CertificateError as E;
    let dated = |cause, time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).ok();
        Untrusted { cause, date: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) }
    };
    let cause = match error {
        E::ExpiredContext { not_after, .. } => return dated(Cause::Expired, not_after),
        E::NotValidYetContext { not_before, .. } => return dated(Cause::NotYetValid, not_before),
        E::Expired => Cause::Expired,
        E::NotValidYet => Cause::NotYetValid,
        E::UnknownIssuer => Cause::UnknownIssuer,
        // Of a certificate, and not of the handshake: a trusted CA has the name of its issuer, and another key.
        E::BadSignature if leaf.is_some() => Cause::UnknownIssuer,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => Cause::WrongPurpose,
        error => by_certificate(error, leaf.and_then(|leaf| Facts::read(leaf)).as_ref()),
    };
    cause.into()
}

/// What the certificate says where the platform's verifier does not: it keeps some causes to itself.
#[allow(deprecated, reason = "a verifier may still return the forms without context")]
fn by_certificate(error: &CertificateError, facts: Option<&Facts>) -> Cause {
    use CertificateError as E;
    match (error, facts) {
        (E::NotValidForName | E::NotValidForNameContext { .. }, facts) => match facts {
            Some(Facts { has_alternative_names: false, .. }) => Cause::NoName,
            _ => Cause::OtherName,
        },
        (
            E::BadSignature
            | E::UnsupportedSignatureAlgorithm
            | E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            _,
        )
        | (_, Some(Facts { version_3: false, .. })) => Cause::Unsupported,
        (_, Some(Facts { ca: true, .. })) => Cause::CaAsServer,
        (_, Some(Facts { for_servers: false, .. })) => Cause::WrongPurpose,
        _ => Cause::Other,
    }
}
