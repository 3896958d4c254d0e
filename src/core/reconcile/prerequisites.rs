//! What has to be in order before a token is requested: the portal, the target, the credentials, the certificates.

use jiff::Timestamp;

use super::facts::{Fact, Unmet};
use super::situation::Situation;
use super::token::Token;
use super::verdict::{Problem, Step};
use crate::api::{Cause, Fault, Reason, ShownName};
use crate::core::object::{Observed, Version};
use crate::core::secrets::{ClientCertificateError, CredentialsError, MAX_TARGET_BYTES, Owner};
use crate::core::spec::Plan;

/// Whether a prerequisite is met: what it lacks, or the read that shows it.
type Prerequisite = Result<Option<Problem>, Step>;

/// Returns the first prerequisite that is not met, in the order of the reasons.
pub(super) fn first_unmet(s: &Situation, plan: &Plan, token: Token<'_>, now: Timestamp) -> Prerequisite {
    if let Some(problem) = too_large(s) {
        return Ok(Some(problem));
    }
    if !s.allowed {
        return Ok(Some(Problem::prerequisite(Fault::new(Reason::PortalNotAllowed, Cause::NotListed), None)));
    }
    if let Some(problem) = foreign_target(s, token) {
        return Ok(Some(problem));
    }
    if let Some(problem) = credentials(s)? {
        return Ok(Some(problem));
    }
    let ca = if plan.ca.is_some() { ca(s)? } else { None };
    let certificate = if plan.client_certificate.is_some() { client_certificate(s, now)? } else { None };
    Ok([ca, certificate].into_iter().flatten().min_by_key(|found| found.reason))
}

/// The target with the token that was issued or read last. After a restart, only the status knows of one that was too long.
fn too_large(s: &Situation) -> Option<Problem> {
    if s.rendered_bytes() > MAX_TARGET_BYTES {
        return Some(Problem::prerequisite(Fault::new(Reason::SpecInvalid, Cause::TargetTooLarge), None));
    }
    let (unmet, same) = recalled(s, &[Reason::SpecInvalid])?;
    let applies = same && s.memory.token_bytes == 0 && unmet.finding.cause == Some(Cause::TargetTooLarge);
    applies.then(|| Problem::recalled(unmet))
}

fn foreign_target(s: &Situation, token: Token<'_>) -> Option<Problem> {
    let (cause, name) = match (token, &s.rival) {
        (Token::Foreign(owner), _) => {
            // After a restart, whose the target is was recorded in the message alone.
            let recorded = recalled(s, &[Reason::TargetNotOwned]);
            match recorded.filter(|(unmet, same)| *same && unmet.finding.message.is_some()) {
                Some((unmet, _)) if *owner == Owner::Other(None) => return Some(Problem::recalled(unmet)),
                _ => foreign(owner),
            }
        }
        (token, Some(rival)) if token.needs_creation() => (Cause::OtherResource, Some(rival)),
        _ => return None,
    };
    let name = name.and_then(|name| ShownName::object(name));
    Some(Problem::prerequisite(Fault::new(Reason::TargetNotOwned, cause).named(name), None))
}

/// Returns why the target is another owner's, and the name of that owner.
fn foreign(owner: &Owner) -> (Cause, Option<&String>) {
    match owner {
        Owner::Other(Some(name)) => (Cause::OtherResource, Some(name)),
        Owner::Controller => (Cause::OtherController, None),
        Owner::Immutable => (Cause::Immutable, None),
        Owner::OtherType => (Cause::OtherType, None),
        Owner::Ours | Owner::Other(None) => (Cause::NoOwner, None),
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
        Ok(Some(Problem::prerequisite(fault, Some(error.key.clone()))))
    };
    let version = match &s.credentials {
        Observed::Absent => return Ok(Some(Problem::prerequisite(Reason::CredentialsNotFound.into(), None))),
        Observed::Unknown => return unseen(s, Step::ReadCredentials),
        Observed::Loaded(_, Err(error)) => return incomplete(error),
        Observed::Loaded(_, Ok(())) => return Ok(None),
        Observed::Cached(version) => version,
    };
    let facts = &s.memory.facts;
    match (facts.incomplete.as_deref(), recalled(s, &[Reason::CredentialsIncomplete])) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(Step::ReadCredentials), incomplete),
        (None, Some((unmet, true))) => Ok(Some(Problem::recalled(unmet))),
        (None, None) if was_read(s, version) => Ok(None),
        _ => Err(Step::ReadCredentials),
    }
}

/// Whether this version of the credentials is the one last read.
fn was_read(s: &Situation, version: &Version) -> bool {
    let reported = s.status.credentials_version.as_deref().is_some_and(|reported| version.resource == *reported);
    reported || s.memory.facts.credentials.as_ref().is_some_and(|(last, _)| last == version)
}

/// What no watch has reported counts as the status says, else it is read.
fn unseen(s: &Situation, read: Step) -> Prerequisite {
    if s.is_reported_right() { Ok(None) } else { Err(read) }
}

/// A CA bundle or a client certificate.
struct Certificates<'a, T> {
    observed: &'a Observed<Option<T>>,
    /// What was found in the last version that was read.
    fact: Option<&'a Fact<Option<T>>>,
    /// The reasons for what is missing, and for what cannot be used.
    missing: Reason,
    invalid: Reason,
    read: Step,
}

fn certificates<T>(s: &Situation, source: Certificates<'_, T>, fault: impl Fn(&T) -> Fault) -> Prerequisite {
    let Certificates { observed, fact, missing, invalid, read } = source;
    let found = |error: &Option<T>| Ok(error.as_ref().map(|error| Problem::prerequisite(fault(error), None)));
    let version = match observed {
        Observed::Absent => return Ok(Some(Problem::prerequisite(Fault::new(missing, Cause::ObjectMissing), None))),
        Observed::Unknown => return unseen(s, read),
        Observed::Loaded(_, error) => return found(error),
        Observed::Cached(version) => version,
    };
    match (fact, recalled(s, &[missing, invalid])) {
        (Some(fact), _) => fact.of(version, s.generation).map_or(Err(read), found),
        // From when on a certificate is valid was recorded in the message alone.
        (None, Some((unmet, true))) if unmet.reason == invalid && unmet.finding.cause != Some(Cause::NotYetValid) => {
            Ok(Some(Problem::recalled(unmet)))
        }
        (None, Some(_)) => Err(read),
        (None, None) => Ok(None),
    }
}

fn ca(s: &Situation) -> Prerequisite {
    let source = Certificates {
        observed: &s.ca,
        fact: s.memory.facts.ca.as_deref(),
        missing: Reason::CaBundleNotFound,
        invalid: Reason::CaBundleInvalid,
        read: Step::ReadCa,
    };
    certificates(s, source, Fault::clone)
}

fn client_certificate(s: &Situation, now: Timestamp) -> Prerequisite {
    let stands = |fact: &&Fact<Option<ClientCertificateError>>| fact.found.is_none_or(|error| error.stands(now));
    let source = Certificates {
        observed: &s.client_certificate,
        fact: s.memory.facts.client_certificate.as_deref().filter(stands),
        missing: Reason::ClientCertificateNotFound,
        invalid: Reason::ClientCertificateInvalid,
        read: Step::ReadClientCertificate,
    };
    certificates(s, source, |error| error.fault())
}
