//! The messages of conditions and events: one per reason, with names that the user wrote and nothing else.

use super::verdict::{Problem, Source};
use crate::api::{CaBundleKind, Reason};
use crate::core::scheduling::waits::Activity;
use crate::core::spec::Plan;

/// The message for a problem.
#[must_use]
pub(crate) fn message(problem: &Problem, plan: Option<&Plan>) -> String {
    let Some(plan) = plan else {
        let field = problem.detail.as_deref().unwrap_or("spec");
        return format!("The specification is invalid: {field}.");
    };
    let detail = problem.detail.as_deref();
    source_message(problem.reason, detail, plan)
        .or_else(|| portal_message(problem.reason, plan))
        .unwrap_or_else(|| target_message(problem, plan))
}

/// What the objects that the resource names lack.
fn source_message(reason: Reason, detail: Option<&str>, plan: &Plan) -> Option<String> {
    let credentials = &plan.credentials.name;
    Some(match reason {
        Reason::CredentialsNotFound => format!("Secret {credentials} with the app's credentials does not exist."),
        Reason::CredentialsIncomplete => format!(
            "Secret {credentials}: key {} is missing, empty or not visible text.",
            detail.unwrap_or(&plan.credentials.client_id_key)
        ),
        Reason::CaBundleNotFound
        | Reason::ClientCertificateNotFound
        | Reason::CaBundleInvalid
        | Reason::ClientCertificateInvalid => certificates(reason, plan, detail),
        _ => return None,
    })
}

/// What the portal answered, and what to check.
fn portal_message(reason: Reason, plan: &Plan) -> Option<String> {
    let (portal, credentials) = (plan.portal.authority(), &plan.credentials.name);
    Some(match reason {
        Reason::PortalNotAllowed => format!(
            "Portal {portal} is not allowed: an administrator has to add its origin to the operator's --allowed-portal."
        ),
        Reason::PortalUntrusted => format!(
            "The certificate of portal {portal} does not verify: check its host name, its dates and spec.portal.caBundleRef."
        ),
        Reason::ClientIdRejected => format!(
            "Portal {portal} rejects the client id in Secret {credentials}: check its value and the registration of the app."
        ),
        Reason::ClientSecretRejected => format!(
            "Portal {portal} rejects the client secret in Secret {credentials}: write the current secret of the app."
        ),
        Reason::RequestRejected => format!(
            "Portal {portal} rejects the token request: check spec.portal.url and spec.portal.clientCertificateRef, and the \
             registration, the privileges and the referrers of the app."
        ),
        Reason::PortalUnreachable => {
            format!("Portal {portal} cannot be reached: check DNS, the NetworkPolicy, the firewall and the proxy.")
        }
        Reason::PortalUnavailable => format!("Portal {portal} reports that it is unavailable."),
        Reason::RateLimited => format!("Portal {portal} limits the rate of requests."),
        Reason::MalformedResponse => format!(
            "The answer of portal {portal} is neither a token nor an ArcGIS error: check spec.portal.url and the proxy."
        ),
        _ => return None,
    })
}

/// What the cluster, or the operator itself, did not do.
fn target_message(problem: &Problem, plan: &Plan) -> String {
    let (target, detail) = (&plan.target.name, problem.detail.as_deref());
    match problem.reason {
        Reason::SpecInvalid => format!(
            "The API server rejects Secret {target} as invalid: correct the labels, annotations and keys in spec.target."
        ),
        Reason::TargetNotOwned => format!(
            "Secret {target} is not owned by this resource, {}: set another spec.target.name, or hand the Secret over.",
            detail.unwrap_or("it belongs to another owner")
        ),
        Reason::TargetRefused if problem.source == Source::Attempt(Activity::Own) => format!(
            "The API server refuses to change the owner reference of Secret {target}: a cluster that protects \
             owner references requires the permission to delete Secrets for it. The token is renewed anyway."
        ),
        Reason::TargetRefused => format!(
            "The API server refuses to write Secret {target}: check quotas, admission policies, the operator's permissions, \
             and whether the namespace is being deleted."
        ),
        Reason::SourceRefused => {
            "The API server does not let the operator read an object that the resource names: grant \
                                  its service account the verb get on it."
                .to_owned()
        }
        Reason::ClusterError => "The Kubernetes API failed.".to_owned(),
        _ => "The operator has a bug that this resource triggers: report it with the operator's log.".to_owned(),
    }
}

/// The messages about the CA bundle and the client certificate.
fn certificates(reason: Reason, plan: &Plan, detail: Option<&str>) -> String {
    let ca = plan.ca.as_ref().map_or_else(String::new, |ca| {
        let kind = if ca.kind == CaBundleKind::Secret { "Secret" } else { "ConfigMap" };
        format!("{kind} {}, key {}", ca.name, ca.key)
    });
    let certificate = plan.client_certificate.as_deref().unwrap_or_default();
    match reason {
        Reason::CaBundleNotFound => format!("The CA bundle, {ca}, does not exist."),
        Reason::ClientCertificateNotFound => {
            format!("The client certificate, Secret {certificate}, keys tls.crt and tls.key, does not exist.")
        }
        Reason::CaBundleInvalid => format!("The CA bundle, {ca}, holds no certificate in PEM."),
        _ => format!(
            "The client certificate in Secret {certificate} cannot be used: {}.",
            detail.unwrap_or("write a valid certificate and its private key, not encrypted, in PEM format")
        ),
    }
}
