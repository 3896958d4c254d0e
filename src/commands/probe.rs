//! `probe`: one exchange without a cluster.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::ByteString;
use zeroize::Zeroizing;

use super::environment::{clock, portals, read_file};
use crate::api::CredentialsRef;
use crate::arcgis::{ClientCertificate, TokenRequest, exchange};
use crate::cli::ProbeArgs;
use crate::core::{Credentials, OriginMatch, PortalUrl, format_seconds};

/// Requests one token; returns a line with the granted lifetime or the reason.
pub async fn probe(args: ProbeArgs) -> Result<String, String> {
    let portal = PortalUrl::parse(&args.portal).map_err(|error| format!("--portal: {error}"))?;
    let keys = CredentialsRef {
        name: String::new(),
        client_id_key: args.client_id_file.display().to_string(),
        client_secret_key: args.client_secret_file.display().to_string(),
    };
    let data = BTreeMap::from([
        (keys.client_id_key.clone(), ByteString(read_file(&args.client_id_file)?)),
        (keys.client_secret_key.clone(), ByteString(read_file(&args.client_secret_file)?)),
    ]);
    let credentials = Credentials::read(&data, &keys).map_err(|error| error.to_string())?;
    let certificate = client_certificate(&args)?;
    let portals = portals(args.ca_file.as_deref())?;
    let client = portals.client(None, certificate.as_ref(), OriginMatch::Exact).map_err(|error| error.to_string())?;
    let base = portal.base();
    let request =
        TokenRequest { portal: &base, credentials: &credentials, lifetime: None, referer: args.referer.as_deref() };
    let started = Instant::now();
    let answer = exchange(&client, &request, clock).await;
    // The time distinguishes a refused connection from one that hangs.
    let how = format!("{} after {:.1} s", portal.authority(), started.elapsed().as_secs_f64());
    match answer {
        Ok(grant) => Ok(format!("Issued: a token for {}, by {how}", format_seconds(grant.lifetime_seconds))),
        Err(error) => Err(format!("{}: {how}", error.fault.reason)),
    }
}

/// Reads the client certificate. The flags require each other.
fn client_certificate(args: &ProbeArgs) -> Result<Option<ClientCertificate>, String> {
    let (Some(certificate), Some(key)) = (&args.client_certificate_file, &args.client_key_file) else {
        return Ok(None);
    };
    let pem = Zeroizing::new(read_file(key)?);
    let read = ClientCertificate::parse(&read_file(certificate)?, &pem, clock());
    let files = format!("--client-certificate-file {}, --client-key-file {}", certificate.display(), key.display());
    read.map(Some).map_err(|error| format!("{files}: {error}"))
}
