//! `probe`: one exchange, step by step, of what flags or a resource name.

mod report;
mod resource;
mod steps;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::ByteString;
use zeroize::Zeroizing;

use super::environment::{clock, portals, read_file};
use crate::api::CredentialsRef;
use crate::arcgis::{ClientCertificate, PortalClient};
use crate::cli::{Output, ProbeArgs};
use crate::core::{Credentials, OriginMatch, Plan, PortalUrl, ServerClock};
use report::Report;

/// What a probe prints, and its last line if it failed.
pub struct Probed {
    pub shown: String,
    pub error: Option<String>,
}

/// What is probed.
struct Subject {
    portal: PortalUrl,
    client: PortalClient,
    credentials: Credentials,
    /// Where the credentials are, for messages.
    place: String,
    referer: Option<String>,
    /// The specification, for a resource.
    plan: Option<Plan>,
    /// What the API server's responses show of the clock, for a resource.
    server_clock: Arc<ServerClock>,
}

/// Requests one token and shows each step.
pub async fn probe(args: ProbeArgs) -> Result<Probed, String> {
    let mut report = Report::default();
    match &args.resource {
        None => {
            steps::exchange(&of_flags(&args)?, &mut report).await;
        }
        Some((namespace, name)) => resource::probe(&args, namespace, name, &mut report).await?,
    }
    let failure = report.failure();
    Ok(match args.output {
        Output::Json => Probed { shown: report.json()?, error: failure },
        Output::Text => {
            let colors = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            Probed { shown: report.text(colors), error: failure }
        }
    })
}

fn required<T>(flag: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("{flag} is missing"))
}

fn of_flags(args: &ProbeArgs) -> Result<Subject, String> {
    let portal = required("--portal", args.portal.as_deref())?;
    let portal = PortalUrl::parse(portal).map_err(|error| format!("--portal: {error}"))?;
    let id = required("--client-id-file", args.client_id_file.as_deref())?;
    let secret = required("--client-secret-file", args.client_secret_file.as_deref())?;
    let certificate = client_certificate(args)?;
    let portals = portals(args.ca_file.as_deref())?;
    let client = portals.client(None, certificate.as_ref(), OriginMatch::Exact).map_err(|error| error.to_string())?;
    let place = format!("files {} and {}", id.display(), secret.display());
    let (credentials, referer) = (read(id, secret)?, args.referer.clone());
    Ok(Subject { portal, client, credentials, place, referer, plan: None, server_clock: Arc::default() })
}

fn read(id: &Path, secret: &Path) -> Result<Credentials, String> {
    let keys = CredentialsRef {
        name: String::new(),
        client_id_key: id.display().to_string(),
        client_secret_key: secret.display().to_string(),
    };
    let data = BTreeMap::from([
        (keys.client_id_key.clone(), ByteString(read_file(id)?)),
        (keys.client_secret_key.clone(), ByteString(read_file(secret)?)),
    ]);
    Credentials::read(&data, &keys).map_err(|error| error.to_string())
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
