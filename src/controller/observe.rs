//! What a reconcile begins with: all that is known of a resource without a call.

use std::sync::Arc;

use jiff::Timestamp;

use super::context::Context;
use crate::api::CaBundleKind;
use crate::core::{Admit, Identity, Observed, OriginMatch, Plan, Situation, SpecError};
use crate::index::{IndexedResource, Key, ObjectKind, Verified};

/// Collects what is known of a resource without a call; `None` when it is gone or being deleted.
pub(super) fn observe(ctx: &Arc<Context>, key: &Key) -> Option<Situation> {
    let mut index = ctx.index();
    let rival = index.rival(key);
    let uid = index.get(key).filter(|resource| !resource.deleting)?.uid.to_string();
    let verified = index.get_mut(key, &uid).and_then(|resource| resource.verified.take());
    let resource = index.get(key)?;
    let plan = plan(resource);
    let namespace = key.namespace();
    let client_certificate = match plan.as_ref().map(|plan| &plan.client_certificate) {
        Ok(Some(name)) => index.observed(ObjectKind::Secret, namespace, name),
        Ok(None) | Err(_) => Observed::Absent,
    };
    let (target, credentials, ca) = match &plan {
        Ok(plan) => (
            index.observed(ObjectKind::Secret, namespace, &plan.target.name),
            index.observed(ObjectKind::Secret, namespace, &plan.credentials.name),
            plan.ca.as_ref().map_or(Observed::Absent, |ca| index.observed(ca_kind(ca.kind), namespace, &ca.name)),
        ),
        Err(_) => (Observed::Unknown, Observed::Unknown, Observed::Absent),
    };
    let created_alike = plan.as_ref().is_ok_and(|plan| ctx.creations().has_alike(namespace, plan, ctx.now()));
    let mut s = Situation {
        me: Identity { namespace: key.namespace().to_owned(), name: key.name().to_owned(), uid: uid.clone() },
        generation: resource.generation,
        requested_at: resource.requested_at.as_deref().map(str::to_owned),
        allowed: plan.as_ref().is_ok_and(|plan| OriginMatch::of(&plan.portal, &ctx.allowed).is_some()),
        plan,
        status: resource.status(),
        rival,
        target,
        credentials,
        ca,
        client_certificate,
        admit: Admit::Now,
        has_permit: false,
        created_alike,
        memory: resource.memory.clone(),
    };
    s.recall(ctx.now());
    if let Some(verified) = verified {
        record_verified(&mut s, *verified, ctx.now());
        // A reconcile that panics does not lose it.
        if let Some(resource) = index.get_mut(key, &uid) {
            resource.memory = s.memory.clone();
        }
    }
    Some(s)
}

fn record_verified(s: &mut Situation, verified: Verified, now: Timestamp) {
    match verified {
        Verified::Answered(issued, answer, clock_differs) => {
            s.memory.verification.clock_differs = clock_differs;
            s.verified(issued, answer, now);
        }
        Verified::Deferred(until) => s.verification_deferred(until),
    }
}

pub(super) fn plan(resource: &IndexedResource) -> Result<Plan, SpecError> {
    let spec = serde_json::from_str(&resource.spec()).map_err(|_| SpecError {
        field: "spec",
        advice: "cannot be decoded: compare it with kubectl explain arcgisappcredential.spec".to_owned(),
    })?;
    Plan::new(&spec)
}

pub(super) fn ca_kind(kind: CaBundleKind) -> ObjectKind {
    match kind {
        CaBundleKind::ConfigMap => ObjectKind::ConfigMap,
        CaBundleKind::Secret => ObjectKind::Secret,
    }
}
