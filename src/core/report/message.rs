//! The messages of conditions and events, with the names of the specification.

use crate::api::{CaBundleKind, Fault, Names};
use crate::core::reconcile::verdict::Problem;
use crate::core::spec::Plan;

/// Returns the message for a problem: the one that a status recorded before a restart, or a new one.
#[must_use]
pub(crate) fn message(problem: &Problem, plan: Option<&Plan>) -> String {
    let recorded = problem.finding.message.clone();
    recorded.unwrap_or_else(|| describe(&problem.finding.fault(problem.reason), problem.detail.as_deref(), plan))
}

/// Returns the message for a failure. `detail` is the key or the field that it is about.
#[must_use]
pub fn describe(fault: &Fault, detail: Option<&str>, plan: Option<&Plan>) -> String {
    let Some(plan) = plan else {
        return fault.message(&Names { field: detail.unwrap_or("spec"), ..Names::default() });
    };
    let portal = plan.portal.authority();
    let ca = plan.ca.as_ref();
    let kind = |kind| if kind == CaBundleKind::Secret { "Secret" } else { "ConfigMap" };
    let bundle = ca.map(|ca| format!("{} {}, key {}", kind(ca.kind), ca.name, ca.key)).unwrap_or_default();
    let unread = fault.seen.name.as_ref().map(crate::api::ShownName::as_str);
    let source = match unread {
        Some(name) if fault.seen.config_map => format!("ConfigMap {name}"),
        Some(name) => format!("Secret {name}"),
        None => "an object that the resource names".to_owned(),
    };
    fault.message(&Names {
        portal: &portal,
        credentials: &format!("Secret {}", plan.credentials.name),
        key: detail.unwrap_or(&plan.credentials.client_id_key),
        ca: &bundle,
        client_certificate: plan.client_certificate.as_deref().unwrap_or_default(),
        target: &plan.target.name,
        source: &source,
        field: detail.unwrap_or("spec.target"),
    })
}
