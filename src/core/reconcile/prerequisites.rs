//! What has to be in order before a token is requested: the portal, the target, the credentials, the certificates.

use super::facts::Unmet;
use super::situation::Situation;
use super::token::Token;
use super::verdict::{Problem, Step};
use crate::api::{Cause, Fault, Reason, ShownName};
use crate::core::object::Observed;
use crate::core::secrets::{ClientCertificateError, CredentialsError, Owner};
use crate::core::spec::Plan;

/// Whether a prerequisite is met: what it lacks, or the read that shows it.
type Prerequisite = Result<Option<Problem>, Step>;

/// Returns the first prerequisite that is not met, in the order of the reasons.
pub(super) fn unmet(s: &Situation, plan: &Plan, token: Token<'_>) -> Prerequisite {
    if !s.allowed {
        return Ok(Some(Problem::unmet(Fault::new(Reason::PortalNotAllowed, Cause::NotListed), None)));
    }
    if let Some(problem) = foreign_target(s, token) {
        return Ok(Some(problem));
    }
    if let Some(problem) = credentials(s)? {
        return Ok(Some(problem));
    }
    let ca = if plan.ca.is_some() { ca(s)? } else { None };
    let certificate = if plan.client_certificate.is_some() { client_certificate(s)? } else { None };
    Ok([ca, certificate].into_iter().flatten().min_by_key(|found| found.reason))
}

fn foreign_target(s: &Situation, token: Token<'_>) -> Option<Problem> {
    let not_owned = |cause, name: Option<&String>| {
        let name = name.and_then(|name| ShownName::object(name));
        Some(Problem::unmet(Fault::new(Reason::TargetNotOwned, cause).named(name), None))
    };
    // After a restart, whose the target is was recorded in the message alone.
    let recorded =
        recalled(s, &[Reason::TargetNotOwned]).filter(|(unmet, same)| *same && unmet.finding.message.is_some());
    match (token, &s.rival) {
        (Token::Foreign(Owner::Other(None)), _) if let Some((before, _)) = recorded => Some(Problem::recalled(before)),
        (Token::Foreign(Owner::Other(Some(name))), _) => not_owned(Cause::OtherResource, Some(name)),
        (Token::Foreign(Owner::Controller), _) => not_owned(Cause::OtherController, None),
        (Token::Foreign(Owner::Immutable), _) => not_owned(Cause::Immutable, None),
        (Token::Foreign(Owner::OtherType), _) => not_owned(Cause::OtherType, None),
        (Token::Foreign(_), _) => not_owned(Cause::NoOwner, None),
        (token, Some(rival)) if token.needs_creation() => not_owned(Cause::OtherResource, Some(rival)),
        _ => None,
    }
}

/// What a status recorded before a restart, and whether what it was found in is unchanged.
fn recalled<'a>(s: &'a Situation, reasons: &[Reason]) -> Option<(&'a Unmet, bool)> {
    let unmet = s.memory.unmet.as_deref().filter(|unmet| reasons.contains(&unmet.reason))?;
    Some((unmet, unmet.made_with == s.made_with()))
}

fn credentials(s: &Situation) -> Prerequisite {
    let incomplete = |error: &CredentialsError| {
        let fault = Fault::new(Reason::CredentialsIncomplete, error.cause);
        Ok(Some(Problem::unmet(fault, Some(error.key.clone()))))
    };
    let version = match &s.credentials {
        Observed::Absent => return Ok(Some(Problem::unmet(Reason::CredentialsNotFound.into(), None))),
        Observed::Unknown if s.is_reported_right() => return Ok(None),
        Observed::Unknown => return Err(Step::ReadCredentials),
        Observed::Loaded(_, Err(error)) => return incomplete(error),
        Observed::Loaded(_, Ok(())) => return Ok(None),
        Observed::Cached(version) => version,
    };
    let facts = &s.memory.facts;
    match (facts.incomplete.as_deref(), recalled(s, &[Reason::CredentialsIncomplete])) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(Step::ReadCredentials), incomplete),
        (None, Some((unmet, true))) => Ok(Some(Problem::recalled(unmet))),
        (None, Some((_, false))) => Err(Step::ReadCredentials),
        (None, None) => {
            let read = s.status.credentials_version.as_ref() == Some(&version.resource)
                || facts.credentials.as_ref().is_some_and(|(last, _)| last == version);
            if read { Ok(None) } else { Err(Step::ReadCredentials) }
        }
    }
}

fn ca(s: &Situation) -> Prerequisite {
    let found = |error: Option<&Fault>| Ok(error.map(|fault| Problem::unmet(fault.clone(), None)));
    let version = match &s.ca {
        Observed::Absent => return found(Some(&Fault::new(Reason::CaBundleNotFound, Cause::ObjectMissing))),
        Observed::Unknown if s.is_reported_right() => return Ok(None),
        Observed::Unknown => return Err(Step::ReadCa),
        Observed::Loaded(_, error) => return found(error.as_ref()),
        Observed::Cached(version) => version,
    };
    match (s.memory.facts.ca.as_deref(), recalled(s, &[Reason::CaBundleNotFound, Reason::CaBundleInvalid])) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(Step::ReadCa), |error| found(error.as_ref())),
        (None, Some((unmet, true))) if unmet.reason == Reason::CaBundleInvalid => Ok(Some(Problem::recalled(unmet))),
        (None, Some(_)) => Err(Step::ReadCa),
        (None, None) => found(None),
    }
}

fn client_certificate(s: &Situation) -> Prerequisite {
    let found = |error: Option<ClientCertificateError>| Ok(error.map(|error| Problem::unmet(error.fault(), None)));
    let version = match &s.client_certificate {
        Observed::Absent => {
            let fault = Fault::new(Reason::ClientCertificateNotFound, Cause::ObjectMissing);
            return Ok(Some(Problem::unmet(fault, None)));
        }
        Observed::Unknown if s.is_reported_right() => return Ok(None),
        Observed::Unknown => return Err(Step::ReadClientCertificate),
        Observed::Loaded(_, error) => return found(*error),
        Observed::Cached(version) => version,
    };
    let reasons = [Reason::ClientCertificateNotFound, Reason::ClientCertificateInvalid];
    match (s.memory.facts.client_certificate.as_deref(), recalled(s, &reasons)) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(Step::ReadClientCertificate), |e| found(*e)),
        (None, Some((unmet, true))) if unmet.reason == Reason::ClientCertificateInvalid => {
            Ok(Some(Problem::recalled(unmet)))
        }
        (None, Some(_)) => Err(Step::ReadClientCertificate),
        (None, None) => found(None),
    }
}
