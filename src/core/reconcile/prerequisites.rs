//! What has to be in order before a token is requested: the portal, the target, the credentials, the certificates.

use super::retry::AttemptKind;
use super::situation::{Situation, TargetDetails, TargetState};
use super::verdict::{Problem, Step, check};
use crate::api::Reason;
use crate::core::object::{Observed, Version};
use crate::core::secrets::{ClientCertificateError, Owner};
use crate::core::spec::Plan;

/// The first check that fails, or the read that a check requires.
pub(super) type Check = Result<Option<Problem>, Step>;

/// Makes the checks in the order of the reasons.
pub(super) fn failed_check(s: &Situation, plan: &Plan, target: &TargetState) -> Check {
    if !s.allowed {
        return Ok(Some(check(Reason::PortalNotAllowed, None)));
    }
    if let Some(problem) = foreign_target(s, target) {
        return Ok(Some(problem));
    }
    if let Some(problem) = check_credentials(s)? {
        return Ok(Some(problem));
    }
    let ca = if plan.ca.is_some() { check_ca(s)? } else { None };
    let certificate = if plan.client_certificate.is_some() { check_client_certificate(s)? } else { None };
    Ok([ca, certificate].into_iter().flatten().min_by_key(|found| found.reason))
}

fn foreign_target(s: &Situation, target: &TargetState) -> Option<Problem> {
    let not_owned = |detail| Some(check(Reason::TargetNotOwned, detail));
    let owner = match (target, &s.rival) {
        (TargetState::Absent, Some(rival)) => return not_owned(Some(format!("resource {rival} is to create it"))),
        (TargetState::Present(TargetDetails { owner, .. }), _) => owner,
        _ => return None,
    };
    match owner {
        Owner::Ours => None,
        Owner::Other(name) => not_owned(name.as_ref().map(|name| format!("it belongs to resource {name}"))),
        Owner::Unusable => not_owned(Some("it is immutable or not of type Opaque".to_owned())),
    }
}

/// The reason of a failed check that a status recorded before a restart, and whether its inputs are unchanged.
fn recalled_check(s: &Situation, reasons: &[Reason]) -> Option<(Reason, bool)> {
    let failed = s.memory.retry_state.as_deref().filter(|failed| reasons.contains(&failed.reason))?;
    Some((failed.reason, failed.made_with.same_inputs(&s.attempt(AttemptKind::Check))))
}

fn check_credentials(s: &Situation) -> Check {
    let incomplete = |key: &str| Ok(Some(check(Reason::CredentialsIncomplete, Some(key.to_owned()))));
    let version = match &s.credentials {
        Observed::Absent => return Ok(Some(check(Reason::CredentialsNotFound, None))),
        Observed::Unknown => return Err(Step::ReadCredentials),
        Observed::Loaded(_, Err(error)) => return incomplete(&error.key),
        Observed::Loaded(_, Ok(())) => return Ok(None),
        Observed::Cached(version) => version,
    };
    let known = |last: &Version| last == version;
    match (s.memory.incomplete_credentials.as_deref(), recalled_check(s, &[Reason::CredentialsIncomplete])) {
        (Some((last, generation, key)), _) if known(last) && *generation == s.generation => return incomplete(key),
        (None, Some((reason, true))) => return Ok(Some(check(reason, None))),
        (Some(_), _) | (None, Some((_, false))) => return Err(Step::ReadCredentials),
        (None, None) => {}
    }
    let read_before = s.status.credentials_version.as_ref() == Some(&version.resource)
        || s.memory.credentials.as_ref().is_some_and(|(last, _)| known(last));
    if read_before { Ok(None) } else { Err(Step::ReadCredentials) }
}

fn check_ca(s: &Situation) -> Check {
    let version = match &s.ca {
        Observed::Absent => return Ok(Some(check(Reason::CaBundleNotFound, None))),
        Observed::Unknown => return Err(Step::ReadCa),
        Observed::Loaded(_, error) => return Ok(error.map(|reason| check(reason, None))),
        Observed::Cached(version) => version,
    };
    match (s.memory.ca.as_deref(), recalled_check(s, &[Reason::CaBundleNotFound, Reason::CaBundleInvalid])) {
        (Some((last, generation, error)), _) if last == version && *generation == s.generation => {
            Ok(error.map(|reason| check(reason, None)))
        }
        (None, Some((reason @ Reason::CaBundleInvalid, true))) => Ok(Some(check(reason, None))),
        (None, None) => Ok(None),
        _ => Err(Step::ReadCa),
    }
}

fn check_client_certificate(s: &Situation) -> Check {
    let found = |error: ClientCertificateError| check(error.reason(), Some(error.to_string()));
    let version = match &s.client_certificate {
        Observed::Absent => return Ok(Some(check(Reason::ClientCertificateNotFound, None))),
        Observed::Unknown => return Err(Step::ReadClientCertificate),
        Observed::Loaded(_, error) => return Ok(error.map(found)),
        Observed::Cached(version) => version,
    };
    let reasons = [Reason::ClientCertificateNotFound, Reason::ClientCertificateInvalid];
    match (s.memory.client_certificate.as_deref(), recalled_check(s, &reasons)) {
        (Some((last, error)), _) if last == version => Ok(error.map(found)),
        (None, Some((reason @ Reason::ClientCertificateInvalid, true))) => Ok(Some(check(reason, None))),
        (None, None) => Ok(None),
        _ => Err(Step::ReadClientCertificate),
    }
}
