//! The next status.

use jiff::Timestamp;

use super::conditions::{Assessment, conditions};
use crate::api::{App, ArcGisAppCredentialStatus, Failure, TokenStatus, Verification};
use crate::core::object::Observed;
use crate::core::reconcile::situation::Situation;
use crate::core::reconcile::token::{Token, TokenDetails};
use crate::core::reconcile::verdict::Problem;
use crate::core::scheduling::waits::Activity;
use crate::core::spec::format_seconds;

pub(super) fn status(
    s: &Situation,
    problem: Option<&Problem>,
    failure: Option<Failure>,
    suspended: bool,
    now: Timestamp,
) -> ArcGisAppCredentialStatus {
    let plan = s.plan.as_ref().ok();
    let state = s.token(now);
    let seen = !matches!(state, Token::Unobserved | Token::Missing { assumed: true, .. });
    let token = if seen { state.published().map(|token| report(s, token)) } else { s.status.token.clone() };
    let satisfied = if s.is_satisfied(state) || token.is_none() { s.generation } else { s.satisfied().unwrap_or(0) };
    let assessment = Assessment { s, plan, problem, token: token.as_ref(), satisfied, suspended, now };
    ArcGisAppCredentialStatus {
        observed_generation: s.generation,
        conditions: conditions(&assessment),
        portal: plan.map_or_else(|| s.status.portal.clone(), |plan| Some(plan.portal.to_string())),
        token,
        rejection: s.rejection(),
        last_handled_request: last_handled_request(s, failure.as_ref()),
        target_version: match s.target.version() {
            version if seen && !is_unfinished(state, failure.as_ref()) => version.map(|v| v.resource.to_string()),
            _ => s.status.target_version.clone(),
        },
        credentials_version: credentials_version(s, failure.as_ref()),
        app: app(s),
        failure,
    }
}

/// Whether the target was not seen, or something is left to do for it that a restart would not see: the Secret of the version
/// that the status reports counts as intact then, except for the owner reference when the status reports that this was
/// refused.
fn is_unfinished(state: Token<'_>, failure: Option<&Failure>) -> bool {
    let Token::Published { in_target, .. } = state else { return false };
    let recalled = failure.is_some_and(|failure| Activity::of(failure) == Some(Activity::Own));
    in_target.is_reported() || !in_target.rendered || !(in_target.owned || recalled)
}

/// Returns what the status says of the app. The portal chooses how many privileges it names.
fn app(s: &Situation) -> Option<App> {
    match s.last_answer() {
        Some(Verification::AppKnown(mut app)) => {
            app.privileges.truncate(App::MAX_PRIVILEGES);
            Some(app)
        }
        Some(Verification::AppUnknown) => None,
        _ => s.status.app.clone().filter(|_| s.verifies()),
    }
}

/// Whether a change that waits for its request is lost by a restart. It is recorded with the failure of that request, which a
/// restart repeats.
fn is_unrecorded(s: &Situation, failure: Option<&Failure>) -> bool {
    let recorded = failure.is_some_and(|failure| Activity::of(failure) == Some(Activity::Request));
    s.memory.pinned.is_some() && !recorded
}

fn last_handled_request(s: &Situation, failure: Option<&Failure>) -> Option<String> {
    if is_unrecorded(s, failure) {
        return s.status.last_handled_request.clone();
    }
    s.memory.last_handled_request.as_deref().map(str::to_owned)
}

fn credentials_version(s: &Situation, failure: Option<&Failure>) -> Option<String> {
    let reported = s.status.credentials_version.clone();
    if is_unrecorded(s, failure) {
        return reported;
    }
    match &s.credentials {
        Observed::Cached(version) if s.memory.facts.credentials.as_ref().is_none_or(|(last, _)| last != version) => {
            reported
        }
        // A Secret that is recreated has to be recognized as another.
        Observed::Absent | Observed::Unknown => reported,
        Observed::Cached(version) | Observed::Loaded(version, _) => Some(version.resource.to_string()),
    }
}

fn report(s: &Situation, token: &TokenDetails) -> TokenStatus {
    TokenStatus {
        issue_time: token.issue_time,
        expiration_time: token.expiration_time,
        renewal_time: s.renewal_time(token),
        lifetime: format_seconds(token.expiration_time.as_second() - token.issue_time.as_second()),
        digest: token.digest.as_ref().map(ToString::to_string),
    }
}
