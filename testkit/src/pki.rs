//! Authorities, and the client certificates that they issue.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};

use crate::{Error, doing};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its private key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Result<Self, Error> {
        let failed = || doing::<rcgen::Error>("making an authority");
        let key = KeyPair::generate().map_err(failed())?;
        let mut params = CertificateParams::new(Vec::new()).map_err(failed())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).map_err(failed())?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its private key, in PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a client certificate that is valid.
    pub fn issue(&self, name: &str) -> Result<Issued, Error> {
        self.sign(name, |_| {})
    }

    /// Issues one that has expired.
    pub fn issue_expired(&self, name: &str) -> Result<Issued, Error> {
        self.sign(name, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// Issues one that begins in the year 2100.
    pub fn issue_early(&self, name: &str) -> Result<Issued, Error> {
        self.sign(name, |params| params.not_before = date_time_ymd(2100, 1, 1))
    }

    /// Issues the certificate of a server.
    pub fn issue_server(&self, host: &str) -> Result<Issued, Error> {
        let name = host.try_into().map_err(doing::<rcgen::Error>("making a certificate"))?;
        self.sign(host, |params| {
            params.subject_alt_names = vec![SanType::DnsName(name)];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// Issues the certificate of a server that expires at this second.
    pub fn issue_server_until(&self, host: &str, second: u64) -> Result<Issued, Error> {
        let name = host.try_into().map_err(doing::<rcgen::Error>("making a certificate"))?;
        self.sign(host, |params| {
            params.subject_alt_names = vec![SanType::DnsName(name)];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.not_after = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(second);
        })
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Issued, Error> {
        let failed = || doing::<rcgen::Error>("making a client certificate");
        let key = KeyPair::generate().map_err(failed())?;
        let mut params = CertificateParams::new(Vec::new()).map_err(failed())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed())?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}
