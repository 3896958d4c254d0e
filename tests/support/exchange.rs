//! One token exchange as the operator makes it, without a cluster.

use arcgis_credential_operator::api::{CredentialsRef, Fault};
use arcgis_credential_operator::arcgis::{
    CaBundle, ClientCertificate, PortalClient, Portals, Proxies, ServiceRanges, TokenRequest, exchange,
};
use arcgis_credential_operator::core::{Credentials, OriginMatch};
use jiff::Timestamp;
use k8s_openapi::ByteString;

use super::SECRET;

/// Returns the client of the app `app`, with its secret.
pub fn credentials() -> Credentials {
    let keys =
        CredentialsRef { name: String::new(), client_id_key: "id".to_owned(), client_secret_key: "s".to_owned() };
    let value = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = [("id".to_owned(), value("app")), ("s".to_owned(), value(SECRET))].into();
    Credentials::read(&data, &keys).unwrap()
}

/// Returns a client that trusts this bundle, in PEM, in addition to the system's roots.
pub fn client(
    bundle: Option<&str>,
    certificate: Option<&ClientCertificate>,
    origin_match: OriginMatch,
    proxies: Proxies,
) -> PortalClient {
    let bundle = bundle.map(|pem| CaBundle::parse(pem.as_bytes()).unwrap());
    let portals = Portals::new(None, ServiceRanges::default(), proxies).unwrap();
    portals.client(bundle.as_ref(), certificate, origin_match).unwrap()
}

/// Requests a token; returns its lifetime, or what failed.
pub async fn request(client: &PortalClient, url: &str) -> Result<i64, Fault> {
    let credentials = credentials();
    let request = TokenRequest { portal: url, credentials: &credentials, lifetime: None, referer: None };
    let exchanged = exchange(client, &request, Timestamp::now).await;
    exchanged.answer.map(|grant| grant.lifetime_seconds).map_err(|error| error.fault)
}
