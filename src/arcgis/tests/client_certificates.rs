//! Which client certificates can be used, and how a server reports that it requires one.

use std::sync::Arc;

use testkit::pki::Authority;

use super::super::{CaBundle, CaBundleError, ClientCertificate, Portals, Proxies, ServiceRanges};
use crate::api::Cause;
use crate::core::{ClientCertificateError as Error, OriginMatch};

/// The second of 2026-01-01.
const NOW: i64 = 1_767_225_600;

fn error(certificate: &str, key: &str, second: i64) -> Option<Error> {
    let now = jiff::Timestamp::from_second(second).unwrap();
    ClientCertificate::parse(certificate.as_bytes(), key.as_bytes(), now).err()
}

#[test]
fn a_client_certificate_is_usable_with_its_own_key_until_it_expires() {
    let authority = Authority::new("clients").unwrap();
    let (good, other) = (authority.issue("good").unwrap(), authority.issue("other").unwrap());
    let expired = authority.issue_expired("expired").unwrap();
    let chain = format!("{}{}", good.certificate, authority.pem());
    let reversed = format!("{}{}", authority.pem(), good.certificate);
    let encrypted = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old_form = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let mut cut = good.certificate.clone();
    cut.replace_range(40..80, "");
    for (what, certificate, key, expected) in [
        ("good", good.certificate.as_str(), good.key.as_str(), None),
        ("with its chain", &chain, &good.key, None),
        ("with text around it", &format!("Bag Attributes\n{chain}"), &format!("# key\r\n{}", good.key), None),
        ("key of another", &good.certificate, &other.key, Some(Error::Mismatch)),
        ("chain in the wrong order", &reversed, &good.key, Some(Error::Mismatch)),
        (
            "expired",
            &expired.certificate,
            &expired.key,
            Some(Error::Expired("2021-01-01T00:00:00Z".parse().unwrap(), false)),
        ),
        ("encrypted", &good.certificate, &encrypted, Some(Error::EncryptedKey)),
        ("encrypted in the old form", &good.certificate, old_form, Some(Error::EncryptedKey)),
        ("no key", &good.certificate, "", Some(Error::UnusableKey)),
        ("a certificate as key", &good.certificate, &good.certificate, Some(Error::UnusableKey)),
        ("a key without its end", &good.certificate, &good.key[..100], Some(Error::UnusableKey)),
        (
            "a key that is no key",
            &good.certificate,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            Some(Error::UnusableKey),
        ),
        (
            "no base64",
            &good.certificate,
            "-----BEGIN PRIVATE KEY-----\n***\n-----END PRIVATE KEY-----",
            Some(Error::UnusableKey),
        ),
        ("no certificate", "", &good.key, Some(Error::UnusableCertificate)),
        ("a key as certificate", &good.key, &good.key, Some(Error::UnusableCertificate)),
        ("a damaged certificate", &cut, &good.key, Some(Error::UnusableCertificate)),
    ] {
        assert_eq!(error(certificate, key, NOW), expected, "{what}");
    }
    let before = error(&expired.certificate, &expired.key, 1_600_000_000);
    assert_eq!(before, None, "it was valid in 2020");
}

#[test]
fn each_set_of_roots_certificate_and_match_has_a_client() {
    testkit::init_crypto();
    let authority = Authority::new("clients").unwrap();
    let certificate = |name: &str| {
        let issued = authority.issue(name).unwrap();
        let now = jiff::Timestamp::from_second(NOW).unwrap();
        ClientCertificate::parse(issued.certificate.as_bytes(), issued.key.as_bytes(), now).unwrap()
    };
    let (one, two) = (certificate("one"), certificate("two"));
    assert_ne!(one.fingerprint, two.fingerprint);
    let portals = Portals::new(None, ServiceRanges::default(), Proxies::default()).unwrap();
    for _ in 0..2 {
        for certificate in [None, Some(&one), Some(&two)] {
            for origin_match in [OriginMatch::Exact, OriginMatch::Wildcard] {
                portals.client(None, certificate, origin_match).unwrap();
            }
        }
    }
    assert_eq!(portals.count(), 6, "the second round made none");
}

#[test]
fn many_sets_of_roots_keep_their_clients_and_share_the_roots_of_the_system() {
    testkit::init_crypto();
    let portals = Portals::new(None, ServiceRanges::default(), Proxies::default()).unwrap();
    let bundles: Vec<CaBundle> = (0..200)
        .map(|n| CaBundle::parse(Authority::new(&format!("roots {n}")).unwrap().pem().as_bytes()).unwrap())
        .collect();
    let clients = || -> Vec<_> {
        bundles.iter().map(|bundle| portals.client(Some(bundle), None, OriginMatch::Exact).unwrap()).collect()
    };
    let first = clients();
    let same = clients().iter().zip(&first).filter(|(again, first)| Arc::ptr_eq(&again.tls, &first.tls)).count();
    assert_eq!(same, 200, "the second round made none");
    assert_eq!(portals.shares(), 201, "with the one for portals without a bundle");
}

#[test]
fn a_bundle_says_why_it_cannot_be_used_and_may_begin_with_a_byte_order_mark() {
    let pem = Authority::new("roots").unwrap().pem().to_owned();
    let cause = |pem: &str| CaBundle::parse(pem.as_bytes()).err().map(CaBundleError::cause);
    assert_eq!(cause(&pem), None);
    assert_eq!(cause(&format!("\u{feff}{pem}")), None);
    assert_eq!(cause(" \n"), Some(Cause::Empty));
    assert_eq!(cause("MIIB"), Some(Cause::NotPem));
    assert_eq!(cause(&pem.repeat(512)), None);
    assert_eq!(cause(&pem.repeat(513)), Some(Cause::TooLarge));
}

#[test]
fn each_error_of_a_client_certificate_has_a_cause() {
    let date = jiff::Timestamp::UNIX_EPOCH;
    for (error, cause) in [
        (Error::WrongType, Cause::OtherType),
        (Error::UnusableCertificate, Cause::NotPem),
        (Error::UnusableKey, Cause::NotPem),
        (Error::EncryptedKey, Cause::Encrypted),
        (Error::Mismatch, Cause::KeyMismatch),
        (Error::Expired(date, false), Cause::Expired),
        (Error::NotYetValid(date, false), Cause::NotYetValid),
        (Error::KeyMissing, Cause::KeyMissing),
    ] {
        assert_eq!(error.fault().cause, Some(cause));
    }
}

proptest::proptest! {
    /// Whatever a server presents is read or not; one that is cut is not.
    #[test]
    fn any_certificate_is_read_or_not(at in 0_usize..1000, byte: u8, cut in 0_usize..1000) {
        let issued = Authority::new("roots").unwrap().issue("host.example.com").unwrap();
        let mut der = rustls_pki_types::pem::PemObject::from_pem_slice(issued.certificate.as_bytes())
            .map(|der: rustls_pki_types::CertificateDer<'_>| der.to_vec())
            .unwrap();
        let (at, end) = (at % der.len(), der.len() - cut % der.len());
        der[at] = byte;
        let facts = crate::arcgis::Facts::read(&der[..end]);
        proptest::prop_assert!(end == der.len() || facts.is_none());
        let not_after = crate::arcgis::certificate::not_after(&der[..end]);
        proptest::prop_assert!(end == der.len() || not_after.is_none());
        proptest::prop_assert!(facts.is_none_or(|facts| Some(facts.not_after) == not_after));
    }
}
