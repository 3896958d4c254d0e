//! The probe of a resource: what it names is read from the cluster with the rights of whoever runs it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::Subject;
use super::report::{Report, Result as Ended};
use super::steps::{exchange, fail};
use crate::api::{ArcGisAppCredential, CaBundleKind, CaBundleRef, Cause, Fault, Reason, Verification};
use crate::arcgis::{CaBundle, ClientCertificate, Grant, identify};
use crate::cli::ProbeArgs;
use crate::cluster::{AccessError, ApiError, Clocks, Cluster, access};
use crate::commands::environment::{clock, portals};
use crate::controller::{Objects, client_certificate, credentials, fetch_ca};
use crate::core::{Credentials, Identity, LiveSecret, OriginMatch, Plan, ServerClock, describe};

/// Probes with what a resource names, then looks at its target.
pub(super) async fn probe(args: &ProbeArgs, namespace: &str, name: &str, report: &mut Report) -> Result<(), String> {
    let server_clock = Arc::new(ServerClock::default());
    let cluster = cluster(server_clock.clone()).await.map_err(|error| error.to_string())?;
    let found = cluster.resource(namespace, name).await;
    let resource = found.map_err(|error| format!("cannot list resource {namespace}/{name}: {error}"))?;
    let resource = resource.ok_or_else(|| format!("there is no resource {namespace}/{name}"))?;
    let plan = Plan::new(&resource.spec).map_err(|error| format!("SpecInvalid: {error}"))?;
    let Some(origin_match) = allowed(args, &plan, report) else { return Ok(()) };
    let objects = Latest { cluster: &cluster, namespace };
    let sources = match read(&objects, &plan).await {
        Ok(sources) => sources,
        Err((fault, key)) => {
            let fault = fault.clock(server_clock.differs());
            report.add("Sources", Ended::Failed, vec![fault.reason.to_string()], None);
            report.failed(&fault, describe(&fault, key.as_deref(), Some(&plan)));
            return Ok(());
        }
    };
    report.add("Sources", Ended::Ok, vec![format!("Secret {}", plan.credentials.name)], None);
    let subject = subject(args, plan, sources, origin_match, server_clock)?;
    if let Some(grant) = exchange(&subject, report).await {
        verify(&subject, &grant, report).await;
    }
    target(&objects, &resource, report).await;
    Ok(())
}

/// Returns how the operator's list allows the portal; `None` where it does not.
fn allowed(args: &ProbeArgs, plan: &Plan, report: &mut Report) -> Option<OriginMatch> {
    if args.allowed_portals.is_empty() {
        report.add("Allowed", Ended::Skipped, vec!["not checked: no --allowed-portal".to_owned()], None);
        return Some(OriginMatch::Exact);
    }
    let found = OriginMatch::of(&plan.portal, &args.allowed_portals);
    let ended = if found.is_some() { Ended::Ok } else { Ended::Failed };
    report.add("Allowed", ended, vec![plan.portal.authority()], None);
    if found.is_none() {
        let fault = Fault::new(Reason::PortalNotAllowed, Cause::NotListed);
        report.failed(&fault, describe(&fault, None, Some(plan)));
    }
    found
}

fn subject(
    args: &ProbeArgs,
    plan: Plan,
    sources: Sources,
    origin_match: OriginMatch,
    server_clock: Arc<ServerClock>,
) -> Result<Subject, String> {
    let portals = portals(args.ca_file.as_deref())?;
    let client = portals.client(sources.ca.as_ref(), sources.certificate.as_ref(), origin_match);
    Ok(Subject {
        portal: plan.portal.clone(),
        client: client.map_err(|error| error.to_string())?,
        credentials: sources.credentials,
        place: String::new(),
        referer: plan.referer.clone(),
        plan: Some(plan),
        server_clock,
    })
}

async fn cluster(server_clock: Arc<ServerClock>) -> Result<Cluster, AccessError> {
    Cluster::connect(&access().await?, &Clocks { server: server_clock, now: clock })
}

struct Sources {
    credentials: Credentials,
    ca: Option<CaBundle>,
    certificate: Option<ClientCertificate>,
}

/// The objects of a namespace, as they are now.
struct Latest<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl Objects for Latest<'_> {
    async fn secret(&self, name: &str) -> Result<Option<Secret>, ApiError> {
        self.cluster.secret(self.namespace, name, None).await
    }

    async fn config_map(&self, name: &str) -> Result<Option<ConfigMap>, ApiError> {
        self.cluster.config_map(self.namespace, name, None).await
    }
}

/// Why an object cannot be used, and the key that it is about.
type Unusable = (Fault, Option<String>);

/// Reads what the resource names.
async fn read(objects: &Latest<'_>, plan: &Plan) -> Result<Sources, Unusable> {
    let missing = || Reason::CredentialsNotFound.into();
    let secret = secret(objects, &plan.credentials.name, missing).await?;
    let credentials = credentials(secret, &plan.credentials)
        .map_err(|error| (Fault::new(Reason::CredentialsIncomplete, error.cause), Some(error.key)))?;
    let ca = match &plan.ca {
        None => None,
        Some(ca) => Some(read_ca(objects, ca).await?),
    };
    let certificate = match &plan.client_certificate {
        None => None,
        Some(name) => Some(read_certificate(objects, name).await?),
    };
    Ok(Sources { credentials, ca, certificate })
}

async fn secret(objects: &Latest<'_>, name: &str, missing: impl FnOnce() -> Fault) -> Result<Secret, Unusable> {
    let found = objects.secret(name).await;
    found.map_err(|error| refused(CaBundleKind::Secret, name, &error))?.ok_or_else(|| (missing(), None))
}

fn refused(kind: CaBundleKind, object: &str, error: &ApiError) -> Unusable {
    (error.fault(Some((kind, object))), None)
}

async fn read_ca(objects: &Latest<'_>, ca: &CaBundleRef) -> Result<CaBundle, Unusable> {
    let found = fetch_ca(objects, ca).await.map_err(|error| refused(ca.kind, &ca.name, &error))?;
    let missing = || (Fault::new(Reason::CaBundleNotFound, Cause::ObjectMissing), None);
    found.ok_or_else(missing)?.1.map_err(|fault| (fault, None))
}

async fn read_certificate(objects: &Latest<'_>, name: &str) -> Result<ClientCertificate, Unusable> {
    let missing = || Fault::new(Reason::ClientCertificateNotFound, Cause::ObjectMissing);
    let secret = secret(objects, name, missing).await?;
    client_certificate(secret, clock()).map_err(|error| (error.fault(), None))
}

/// Asks the portal about the token.
async fn verify(subject: &Subject, grant: &Grant, report: &mut Report) {
    let is_app = |id: &str| id == subject.credentials.id();
    let (base, referer) = (subject.portal.base(), subject.referer.as_deref());
    let identified = identify(&subject.client, &base, &grant.token, referer, is_app, clock).await;
    let missing: Vec<String> = match (&identified.answer, subject.plan.as_ref().and_then(|p| p.verification.as_ref())) {
        (Verification::AppKnown(app), Some(plan)) => {
            plan.required_privileges.iter().filter(|name| !app.privileges.contains(name)).cloned().collect()
        }
        _ => Vec::new(),
    };
    let known = matches!(identified.answer, Verification::AppKnown(_));
    let mut seen = vec![identified.answer.as_str().to_owned()];
    if !missing.is_empty() {
        seen.push(format!("missing privileges: {}", missing.join(", ")));
    }
    let result = if known && missing.is_empty() { Ended::Ok } else { Ended::Failed };
    report.add("portals/self", result, seen, None);
    if matches!(identified.answer, Verification::TokenRejected | Verification::AppUnknown) {
        fail(subject, report, &Fault::new(Reason::RequestRejected, Cause::ArcGisError));
    }
}

/// Looks whether the target holds a valid token.
async fn target(objects: &Latest<'_>, resource: &ArcGisAppCredential, report: &mut Report) {
    let name = &resource.spec.target.name;
    let me = Identity {
        namespace: objects.namespace.to_owned(),
        name: resource.metadata.name.clone().unwrap_or_default(),
        uid: resource.metadata.uid.clone().unwrap_or_default(),
    };
    let reported = resource.status.as_ref().and_then(|status| status.token.as_ref());
    let (result, seen) = match objects.secret(name).await {
        Err(error) => (Ended::Failed, error.to_string()),
        Ok(None) => (Ended::Failed, format!("Secret {name} does not exist")),
        Ok(Some(secret)) => match LiveSecret::new(secret, &me).stored(reported) {
            None => (Ended::Failed, format!("Secret {name} holds no token of this resource")),
            Some(stored) if stored.expiration_time <= clock() => {
                (Ended::Failed, format!("the token in Secret {name} expired at {}", stored.expiration_time))
            }
            Some(stored) => {
                (Ended::Ok, format!("Secret {name} holds a token that is valid until {}", stored.expiration_time))
            }
        },
    };
    report.add("Target", result, vec![seen], None);
}
