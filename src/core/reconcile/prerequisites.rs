//! What has to be in order before a token is requested: the portal, the target, the credentials, the certificates.

use super::situation::Situation;
use super::token::Token;
use super::verdict::{Problem, Step};
use crate::api::Reason;
use crate::core::object::Observed;
use crate::core::secrets::{ClientCertificateError, Owner};
use crate::core::spec::Plan;

/// Whether a prerequisite is met: what it lacks, or the read that shows it.
type Prerequisite = Result<Option<Problem>, Step>;

/// Returns the first prerequisite that is not met, in the order of the reasons.
pub(super) fn unmet(s: &Situation, plan: &Plan, token: Token<'_>) -> Prerequisite {
    if !s.allowed {
        return Ok(Some(Problem::unmet(Reason::PortalNotAllowed, None)));
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
    let not_owned = |detail| Some(Problem::unmet(Reason::TargetNotOwned, detail));
    match (token, &s.rival) {
        (Token::Foreign(Owner::Other(name)), _) => {
            not_owned(name.as_ref().map(|name| format!("it belongs to resource {name}")))
        }
        (Token::Foreign(_), _) => not_owned(Some("it is immutable or not of type Opaque".to_owned())),
        (token, Some(rival)) if token.needs_creation() => not_owned(Some(format!("resource {rival} is to create it"))),
        _ => None,
    }
}

/// The reason that a status recorded before a restart, and whether what it was found in is unchanged.
fn recalled(s: &Situation, reasons: &[Reason]) -> Option<(Reason, bool)> {
    let unmet = s.memory.unmet.as_deref().filter(|unmet| reasons.contains(&unmet.reason))?;
    Some((unmet.reason, unmet.made_with == s.made_with()))
}

fn credentials(s: &Situation) -> Prerequisite {
    let incomplete = |key: &str| Ok(Some(Problem::unmet(Reason::CredentialsIncomplete, Some(key.to_owned()))));
    let version = match &s.credentials {
        Observed::Absent => return Ok(Some(Problem::unmet(Reason::CredentialsNotFound, None))),
        Observed::Unknown if s.is_reported_right() => return Ok(None),
        Observed::Unknown => return Err(Step::ReadCredentials),
        Observed::Loaded(_, Err(error)) => return incomplete(&error.key),
        Observed::Loaded(_, Ok(())) => return Ok(None),
        Observed::Cached(version) => version,
    };
    let facts = &s.memory.facts;
    match (facts.incomplete.as_deref(), recalled(s, &[Reason::CredentialsIncomplete])) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(Step::ReadCredentials), |key| incomplete(key)),
        (None, Some((reason, true))) => Ok(Some(Problem::unmet(reason, None))),
        (None, Some((_, false))) => Err(Step::ReadCredentials),
        (None, None) => {
            let read = s.status.credentials_version.as_ref() == Some(&version.resource)
                || facts.credentials.as_ref().is_some_and(|(last, _)| last == version);
            if read { Ok(None) } else { Err(Step::ReadCredentials) }
        }
    }
}

fn ca(s: &Situation) -> Prerequisite {
    let found = |error: Option<Reason>| Ok(error.map(|reason| Problem::unmet(reason, None)));
    let version = match &s.ca {
        Observed::Absent => return found(Some(Reason::CaBundleNotFound)),
        Observed::Unknown if s.is_reported_right() => return Ok(None),
        Observed::Unknown => return Err(Step::ReadCa),
        Observed::Loaded(_, error) => return found(*error),
        Observed::Cached(version) => version,
    };
    match (s.memory.facts.ca.as_deref(), recalled(s, &[Reason::CaBundleNotFound, Reason::CaBundleInvalid])) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(Step::ReadCa), |error| found(*error)),
        (None, Some((reason @ Reason::CaBundleInvalid, true))) => found(Some(reason)),
        (None, Some(_)) => Err(Step::ReadCa),
        (None, None) => found(None),
    }
}

fn client_certificate(s: &Situation) -> Prerequisite {
    let found = |error: Option<ClientCertificateError>| {
        Ok(error.map(|error| Problem::unmet(error.reason(), Some(error.to_string()))))
    };
    let version = match &s.client_certificate {
        Observed::Absent => return Ok(Some(Problem::unmet(Reason::ClientCertificateNotFound, None))),
        Observed::Unknown if s.is_reported_right() => return Ok(None),
        Observed::Unknown => return Err(Step::ReadClientCertificate),
        Observed::Loaded(_, error) => return found(*error),
        Observed::Cached(version) => version,
    };
    let reasons = [Reason::ClientCertificateNotFound, Reason::ClientCertificateInvalid];
    match (s.memory.facts.client_certificate.as_deref(), recalled(s, &reasons)) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(Step::ReadClientCertificate), |e| found(*e)),
        (None, Some((reason @ Reason::ClientCertificateInvalid, true))) => Ok(Some(Problem::unmet(reason, None))),
        (None, Some(_)) => Err(Step::ReadClientCertificate),
        (None, None) => found(None),
    }
}
