//! What users are told: one sentence per reason, with names they wrote themselves and nothing else.

use super::decide::{OWNER_REFERENCE, Problem};
use crate::api::{CaBundleKind, Reason};
use crate::core::spec::Plan;

/// The message for a problem.
#[must_use]
pub(crate) fn message(problem: &Problem, plan: Option<&Plan>) -> String {
    let Some(plan) = plan else {
        let field = problem.detail.as_deref().unwrap_or("spec");
        return format!("The specification is invalid: {field}.");
    };
    let (portal, target, credentials) = (plan.portal.authority(), &plan.target.name, &plan.credentials.name);
    let ca = plan.ca.as_ref().map_or_else(String::new, |ca| {
        let kind = if ca.kind == CaBundleKind::Secret { "Secret" } else { "ConfigMap" };
        format!("{kind} {}, key {}", ca.name, ca.key)
    });
    let detail = problem.detail.as_deref();
    match problem.reason {
        Reason::SpecInvalid => format!(
            "The API server finds Secret {target} invalid: check the labels, annotations and keys in spec.target."
        ),
        Reason::PortalNotAllowed => {
            format!("The operator may not talk to portal {portal}: ask for it to be added to --allowed-portal.")
        }
        Reason::TargetNotOwned => format!(
            "Secret {target} is not this resource's, {}: choose another name or hand the Secret over.",
            detail.unwrap_or("it belongs to somebody else")
        ),
        Reason::CredentialsNotFound => format!("Secret {credentials} with the app's credentials does not exist."),
        Reason::CredentialsIncomplete => format!(
            "Secret {credentials}: key {} is missing, empty or not visible text.",
            detail.unwrap_or(&plan.credentials.client_id_key)
        ),
        Reason::CaBundleNotFound => format!("The CA bundle, {ca}, does not exist."),
        Reason::CaBundleInvalid => format!("The CA bundle, {ca}, holds no certificate in PEM."),
        Reason::PortalUntrusted => format!(
            "The certificate of portal {portal} does not verify: check its host name and dates, and spec.portal.caBundleRef."
        ),
        Reason::ClientIdRejected => format!("Portal {portal} does not know the client id in Secret {credentials}."),
        Reason::ClientSecretRejected => {
            format!("Portal {portal} refuses the client secret in Secret {credentials}.")
        }
        Reason::RequestRejected => format!(
            "Portal {portal} refuses the token request: check spec.portal.url and the app's registration and rights."
        ),
        Reason::PortalUnreachable => format!("Portal {portal} cannot be reached."),
        Reason::PortalUnavailable => format!("Portal {portal} says that it cannot serve requests now."),
        Reason::RateLimited => format!("Portal {portal} asks for fewer requests."),
        Reason::MalformedResponse => {
            format!("Portal {portal} answers with something that is neither a token nor an ArcGIS error.")
        }
        Reason::TargetRefused if detail == Some(OWNER_REFERENCE) => format!(
            "The API server refuses to change the owner reference of Secret {target}: on a cluster that guards them it takes \
             the right to delete Secrets. The token is kept fresh all the same."
        ),
        Reason::TargetRefused => format!(
            "The API server refuses to write Secret {target}: look for a quota, a policy, a missing right or a namespace \
             that is being deleted."
        ),
        Reason::ClusterError => "The Kubernetes API failed.".to_owned(),
        Reason::Internal => {
            "The operator failed on this resource: please report it with the operator's log.".to_owned()
        }
    }
}
