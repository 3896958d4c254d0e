//! Reads what a request to a portal needs: the credentials, the CA bundle and the client certificate.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::api::{CaBundleKind, CaBundleRef, Cause, CredentialsRef, Fault, Reason};
use crate::arcgis::{CaBundle, ClientCertificate};
use crate::cluster::{ApiError, version};
use crate::core::{ClientCertificateError, Credentials, CredentialsError, Version, zero};

/// Reads a Secret with credentials, and zeroizes its data.
pub fn credentials(secret: Secret, keys: &CredentialsRef) -> Result<Credentials, CredentialsError> {
    let mut data = secret.data.unwrap_or_default();
    let read = Credentials::read(&data, keys);
    zero(&mut data);
    read
}

/// The objects of one namespace.
pub trait Objects {
    /// The Secret, `None` where there is none.
    fn secret(&self, name: &str) -> impl Future<Output = Result<Option<Secret>, ApiError>> + Send;
    /// The `ConfigMap`, `None` where there is none.
    fn config_map(&self, name: &str) -> impl Future<Output = Result<Option<ConfigMap>, ApiError>> + Send;
}

/// Reads a CA bundle with its version, or why it cannot be used.
pub async fn fetch_ca(
    objects: &impl Objects,
    ca: &CaBundleRef,
) -> Result<Option<(Version, Result<CaBundle, Fault>)>, ApiError> {
    let found = match ca.kind {
        CaBundleKind::Secret => objects.secret(&ca.name).await?.map(|secret| {
            let pem = secret.data.as_ref().and_then(|data| data.get(&ca.key)).map(|bytes| bytes.0.clone());
            (version(&secret), pem)
        }),
        CaBundleKind::ConfigMap => objects.config_map(&ca.name).await?.map(|map| {
            let text = map.data.as_ref().and_then(|data| data.get(&ca.key)).map(|text| text.clone().into_bytes());
            let bytes = || map.binary_data.as_ref().and_then(|data| data.get(&ca.key)).map(|bytes| bytes.0.clone());
            let pem = text.or_else(bytes);
            (version(&map), pem)
        }),
    };
    Ok(found.map(|(version, pem)| match pem.map(|pem| CaBundle::parse(&pem)) {
        None => (version, Err(Fault::new(Reason::CaBundleNotFound, Cause::KeyMissing))),
        Some(Err(error)) => (version, Err(Fault::new(Reason::CaBundleInvalid, error.cause()))),
        Some(Ok(bundle)) => (version, Ok(bundle)),
    }))
}

/// Reads a Secret with a client certificate, and zeroizes its data.
pub fn client_certificate(secret: Secret, now: Timestamp) -> Result<ClientCertificate, ClientCertificateError> {
    let mut data = secret.data.unwrap_or_default();
    let read = match (data.get("tls.crt"), data.get("tls.key")) {
        (Some(_), Some(_)) if secret.type_.as_deref() != Some("kubernetes.io/tls") => {
            Err(ClientCertificateError::WrongType)
        }
        (Some(certificates), Some(key)) => ClientCertificate::parse(&certificates.0, &key.0, now),
        _ => Err(ClientCertificateError::KeyMissing),
    };
    zero(&mut data);
    read
}
