//! What exactly was seen when an attempt failed: the closed list of causes, and what a message may name.

use std::fmt;

use jiff::Timestamp;

use super::reason::Reason;
use super::words::words;

words! {
    /// What was seen, a second word beside the [`Reason`]. Several reasons share a word. The messages say what each one means.
    #[allow(missing_docs, reason = "the messages say what each one means")]
    pub enum Cause {
    AddressNotAllowed,
    ArcGisError,
    CaAsServer,
    ClientCertificateRequired,
    ConnectTimeout,
    ConnectionClosed,
    ConnectionRefused,
    Empty,
    Encrypted,
    Expired,
    Html,
    HttpStatus,
    Immutable,
    InvalidLifetime,
    InvalidToken,
    KeyMismatch,
    KeyMissing,
    NameNotResolved,
    NamespaceTerminating,
    NoCommonTls,
    NoName,
    NoOwner,
    NoRoute,
    NoToken,
    NotJson,
    NotListed,
    NotPem,
    NotText,
    NotTls,
    NotYetValid,
    ObjectMissing,
    Other,
    OtherController,
    OtherName,
    OtherResource,
    OtherType,
    OwnerReference,
    Permission,
    Policy,
    ProxyRejected,
    ProxyUnreachable,
    Quota,
    Redirect,
    ResponseTimeout,
    ServerError,
    TargetAnnotations,
    TargetKeys,
    TargetLabels,
    TargetTooLarge,
    Timeout,
    TooLarge,
    TooManyRequests,
    Truncated,
    Unauthorized,
    Undecodable,
    UnknownIssuer,
    Unreachable,
    Unsupported,
    Webhook,
    WebhookFailed,
    WrongPurpose,
    }
}

impl Cause {
    /// The cause with this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.as_str() == text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The causes of the reasons that have some.
#[allow(clippy::enum_glob_use, reason = "it names nearly all of them")]
const CAUSES: &[(Reason, &[Cause])] = {
    use Cause::*;
    &[
        (Reason::SpecInvalid, &[Undecodable, TargetLabels, TargetAnnotations, TargetKeys, TargetTooLarge]),
        (Reason::PortalNotAllowed, &[NotListed, AddressNotAllowed]),
        (Reason::TargetNotOwned, &[NoOwner, OtherController, OtherResource, Immutable, OtherType]),
        (Reason::SourceRefused, &[Permission, Other]),
        (Reason::CredentialsIncomplete, &[KeyMissing, Empty, NotText]),
        (Reason::CaBundleNotFound, &[ObjectMissing, KeyMissing]),
        (Reason::ClientCertificateNotFound, &[ObjectMissing, KeyMissing]),
        (Reason::CaBundleInvalid, &[Empty, NotPem, TooLarge]),
        (Reason::ClientCertificateInvalid, &[NotPem, KeyMismatch, Encrypted, Expired, NotYetValid, OtherType]),
        (
            Reason::PortalUntrusted,
            &[Expired, NotYetValid, CaAsServer, WrongPurpose, UnknownIssuer, Unsupported, OtherName, NoName, Other],
        ),
        (Reason::RequestRejected, &[HttpStatus, ArcGisError, ClientCertificateRequired, NoCommonTls]),
        (
            Reason::PortalUnreachable,
            &[
                NameNotResolved,
                ConnectionRefused,
                NoRoute,
                ConnectTimeout,
                ConnectionClosed,
                ResponseTimeout,
                NotTls,
                ProxyUnreachable,
                ProxyRejected,
            ],
        ),
        (Reason::PortalUnavailable, &[HttpStatus, ArcGisError]),
        (Reason::RateLimited, &[HttpStatus, ArcGisError]),
        (
            Reason::MalformedResponse,
            &[Redirect, Html, NotJson, NoToken, InvalidToken, InvalidLifetime, TooLarge, Truncated],
        ),
        (Reason::TargetRefused, &[Permission, Quota, Policy, Webhook, NamespaceTerminating, OwnerReference, Other]),
        (Reason::ClusterError, &[Timeout, Unauthorized, TooManyRequests, ServerError, WebhookFailed, Unreachable]),
    ]
};

impl Reason {
    /// The causes of this reason; empty where the reason says it all.
    #[must_use]
    pub fn causes(self) -> &'static [Cause] {
        CAUSES.iter().find(|(reason, _)| *reason == self).map_or(&[], |(_, causes)| causes)
    }
}

/// A name that may stand in a message: of a Kubernetes object, or of a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShownName(Box<str>);

impl ShownName {
    /// The name of a Kubernetes object, if it is one: a DNS-1123 subdomain.
    #[must_use]
    pub fn object(text: &str) -> Option<Self> {
        is_subdomain(text).then(|| Self(text.into()))
    }

    /// A host name or an IP address, with or without a port: at most 253 visible characters.
    #[must_use]
    pub fn host(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._*:[]".contains(&b);
        ((1..=253).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is a DNS-1123 subdomain.
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        l.bytes().all(|b| edge(b) || b == b'-')
            && l.bytes().next().is_some_and(edge)
            && l.bytes().last().is_some_and(edge)
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// What a message says beyond reason and cause. It holds no other text than names that were checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that was seen")]
pub struct Seen {
    /// An HTTP status, or a code of ArcGIS.
    pub number: Option<u16>,
    /// A date of a certificate.
    pub date: Option<Timestamp>,
    /// The quota, policy or webhook that refused, the proxy, or the resource that owns a Secret.
    pub name: Option<ShownName>,
    /// A 401 offers Negotiate or NTLM.
    pub windows: bool,
    /// What cannot be read is a `ConfigMap`, not a Secret.
    pub config_map: bool,
    /// The clocks of this machine and of the API server differ, where that may be why.
    pub clock_differs: bool,
}

/// Why an attempt failed, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    pub reason: Reason,
    pub cause: Option<Cause>,
    pub seen: Seen,
}

impl Fault {
    /// A cause of a reason. One that is not in its list is left out.
    #[must_use]
    pub fn new(reason: Reason, cause: Cause) -> Self {
        let cause = reason.causes().contains(&cause).then_some(cause);
        Self { reason, cause, seen: Seen::default() }
    }

    /// With a number.
    #[must_use]
    pub fn number(mut self, number: u16) -> Self {
        self.seen.number = Some(number);
        self
    }

    /// With a date.
    #[must_use]
    pub fn date(mut self, date: Option<Timestamp>) -> Self {
        self.seen.date = date;
        self
    }

    /// With whether the clock may be at fault, which only matters where dates decide.
    #[must_use]
    pub fn clock(mut self, differs: bool) -> Self {
        self.seen.clock_differs = differs && matches!(self.cause, Some(Cause::Expired | Cause::NotYetValid));
        self
    }

    /// With a name.
    #[must_use]
    pub fn named(mut self, name: Option<ShownName>) -> Self {
        self.seen.name = name;
        self
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self { reason, cause: None, seen: Seen::default() }
    }
}
