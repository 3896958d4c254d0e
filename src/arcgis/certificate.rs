//! What a server's certificate says of itself: version, dates, names and purposes, read from its DER.

use std::net::IpAddr;

use jiff::Timestamp;
use x509_cert::certificate::{CertificateInner, Raw, TbsCertificateInner, Version};
use x509_cert::der::asn1::{Any, AnyRef, Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode, SliceReader, Tagged, oid::AssociatedOid};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::time::{Time, Validity};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// What a certificate says. Nothing of it is verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one statement of the certificate")]
pub struct Facts {
    /// Whether it is of version 3, which has extensions.
    pub version_3: bool,
    /// CA:TRUE.
    pub ca: bool,
    /// Whether its extended key usage, where it has one, includes servers.
    pub for_servers: bool,
    /// Whether its key usage, where it has one, includes TLS handshakes.
    pub for_handshakes: bool,
    /// Whether there is a subject alternative name, of whatever type.
    pub has_alternative_names: bool,
    /// The host names and IP addresses among its subject alternative names.
    pub alternative_names: Vec<String>,
    /// The common name, if it has exactly one.
    pub common_name: Option<String>,
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Facts {
    /// Reads a certificate in DER format.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let certificate = CertificateInner::<Raw>::from_der(der).ok()?;
        let tbs = certificate.tbs_certificate();
        let usages = extension::<ExtendedKeyUsage>(tbs)?;
        let key_usage = extension::<KeyUsage>(tbs)?;
        let names = extension::<SubjectAltName>(tbs)?;
        Some(Self {
            version_3: tbs.version() == Version::V3,
            ca: extension::<BasicConstraints>(tbs)?.is_some_and(|constraints| constraints.ca),
            for_servers: usages.is_none_or(|usages| usages.0.contains(&SERVER_AUTH)),
            for_handshakes: key_usage
                .is_none_or(|usage| usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()),
            has_alternative_names: names.is_some(),
            alternative_names: names.iter().flat_map(|names| &names.0).filter_map(name).collect(),
            common_name: common_name(tbs.subject()),
            issuer: tbs.issuer().to_string(),
            not_before: time(tbs.validity().not_before)?,
            not_after: time(tbs.validity().not_after)?,
        })
    }

    /// Whether the common name is this host name or IP address.
    #[must_use]
    pub fn is_named(&self, host: &str) -> bool {
        let Some(name) = self.common_name.as_deref() else { return false };
        match (name.parse::<IpAddr>(), host.parse::<IpAddr>()) {
            (Ok(name), Ok(host)) => name == host,
            (Err(_), Err(_)) => name.eq_ignore_ascii_case(host.trim_end_matches('.')),
            _ => false,
        }
    }
}

/// Reads when a certificate in DER format expires, and skips the rest.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    let certificate = AnyRef::from_der(der).ok()?;
    let tbs = AnyRef::decode(&mut SliceReader::new(certificate.value()).ok()?).ok()?;
    let mut fields = SliceReader::new(tbs.value()).ok()?;
    // Before the dates stand the version, where there is one, the serial number, the algorithm and the issuer.
    let first = AnyRef::decode(&mut fields).ok()?;
    let before = if first.tag().is_context_specific() { 3 } else { 2 };
    for _ in 0..before {
        AnyRef::decode(&mut fields).ok()?;
    }
    time(Validity::<Raw>::decode(&mut fields).ok()?.not_after)
}

/// An extension, if there is one; `None` for one that cannot be read, or that stands there twice.
#[allow(clippy::option_option, reason = "absent and unreadable differ")]
fn extension<'a, T: Decode<'a> + AssociatedOid>(tbs: &'a TbsCertificateInner<Raw>) -> Option<Option<T>> {
    tbs.get_extension::<T>().ok().map(|found| found.map(|(_, extension)| extension))
}

fn time(time: Time) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn common_name(subject: &Name) -> Option<String> {
    let mut found = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let only = found.next()?;
    if found.next().is_some() { None } else { text(&only.value) }
}

fn text(value: &Any) -> Option<String> {
    let utf8 = || value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned());
    utf8().or_else(printable).or_else(ia5)
}
