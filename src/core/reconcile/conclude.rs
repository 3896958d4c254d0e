//! What to report: the next status, the event of a condition change, and when to reconcile again.

use jiff::{SignedDuration, Timestamp};

use super::conditions::Conditions;
use super::difference::{Difference, explain, stalls};
use super::facts::Unmet;
use super::memory::Memory;
use super::situation::Situation;
use super::token::{Evaluated, Token, TokenDetails, Trigger};
use super::verdict::{Problem, Source, Verdict};
use super::verification::MAX_PRIVILEGES;
use crate::api::{App, ArcGisAppCredentialStatus, Cause, Condition, Failure, Reason, TokenStatus, Verification};
use crate::core::object::Observed;
use crate::core::scheduling::Finding;
use crate::core::scheduling::schedule::{after, next_whole, whole};
use crate::core::scheduling::waits::{Activity, MadeWith, Wait};
use crate::core::spec::format_seconds;

/// The cause of a failure that may end by itself is written again after this time.
const CAUSE_PERIOD: SignedDuration = SignedDuration::from_mins(10);

/// The result of one reconcile.
pub struct Conclusion {
    pub status: ArcGisAppCredentialStatus,
    /// The status that it was concluded from.
    pub previous: ArcGisAppCredentialStatus,
    /// Whether the status differs from the one last written.
    pub changed: bool,
    /// Until when the status is not written, because an earlier write of it failed.
    pub report_after: Option<Timestamp>,
    pub change: Option<ConditionChange>,
    pub problem: Option<Reason>,
    pub wake: Timestamp,
    pub memory: Memory,
    /// What the write of the status is made with.
    pub made_with: MadeWith,
}

/// An event to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionChange {
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// Concludes after [`super::decide()`] has said [`super::Step::Rest`].
#[must_use]
pub fn conclude(mut s: Situation, verdict: Verdict, now: Timestamp) -> Conclusion {
    let Verdict { problem, mut wake, awaits_permit, .. } = verdict;
    let suspended = s.plan.as_ref().is_ok_and(|plan| plan.suspend);
    let (problem, failure) = if suspended {
        (None, s.status.failure.clone())
    } else {
        s.forget_what_is_resolved(problem.as_ref(), now);
        s.reported_failure(problem, awaits_permit, now)
    };
    let status = status(&s, problem.as_ref(), failure, suspended, now);
    if let Some(token) = status.token.as_ref().filter(|token| token.expiration_time > now) {
        wake = wake.min(token.expiration_time);
    }
    if let Some(due) = s.verification_due(now) {
        wake = wake.min(due);
    }
    let change = change(&s.status, &status);
    let (told, next) = if suspended { (None, None) } else { s.tell_renewals(&status, problem.as_ref(), now) };
    wake = next.map_or(wake, |next| wake.min(next));
    // A new resource that only waits for its turn is reported with the outcome of its request.
    let waits = awaits_permit && s.status.conditions.is_empty();
    let changed = s.is_worth_a_write(&status, now) && !waits;
    if !changed {
        s.memory.waits.remove(Activity::Report);
    }
    let made_with = s.made_with();
    let report_after = s.memory.waits.until(&[Activity::Report], &made_with, now);
    wake = report_after.map_or(wake, |until| wake.min(until));
    Conclusion {
        changed,
        report_after,
        status,
        previous: s.status,
        change: change.or(told),
        problem: problem.map(|problem| problem.reason),
        // A due time that is not in the future would be a loop.
        wake: wake.max(after(now, 1)),
        memory: s.memory,
        made_with,
    }
}

impl Situation {
    /// Whether a status differs from the one last written in more than words. An outage writes a cause at most every 10
    /// minutes.
    fn is_worth_a_write(&mut self, status: &ArcGisAppCredentialStatus, now: Timestamp) -> bool {
        let failure = status.failure.as_ref();
        let allowed = self.memory.cause_written.is_none_or(|last| now.duration_since(last) >= CAUSE_PERIOD);
        let written = match Difference::between(&self.status, status) {
            Difference::None | Difference::Words => false,
            Difference::Cause => allowed || failure.is_some_and(|failure| stalls(failure.reason)),
            Difference::More => true,
        };
        if written {
            self.memory.cause_written = failure.map(|_| now);
        }
        written
    }

    /// Brings what is remembered of failures in line with what was found.
    fn forget_what_is_resolved(&mut self, problem: Option<&Problem>, now: Timestamp) {
        for activity in [Activity::Read, Activity::Write, Activity::Own] {
            if self.memory.waits.get(activity).is_some_and(|wait| self.is_resolved(wait, now)) {
                self.memory.waits.remove(activity);
            }
        }
        let found = problem.filter(|problem| problem.source == Source::Prerequisite);
        self.memory.unmet = found.map(|found| self.unmet(found, now));
        if matches!(problem, Some(Problem { source: Source::Pause(_), .. })) && self.asked() {
            // It counts even if it is withdrawn during the pause, as after a restart.
            self.memory.demand.get_or_insert(Trigger::Requested);
        }
    }

    /// Whether a failure is resolved: nothing is left to do about it, or it was done again and did not fail.
    fn is_resolved(&self, wait: &Wait, now: Timestamp) -> bool {
        if wait.until(&self.made_with(), now).is_none() {
            return true;
        }
        match wait.activity {
            Activity::Write => {
                let whole = matches!(self.token(now), Token::Published { in_target, .. } if in_target.rendered);
                whole && self.memory.issued.is_none() && !matches!(wait.reason, Reason::ClusterError | Reason::Internal)
            }
            Activity::Own => self.token(now).target().is_some_and(|target| target.owned),
            Activity::Read | Activity::Request | Activity::Report => false,
        }
    }

    fn unmet(&mut self, found: &Problem, now: Timestamp) -> Box<Unmet> {
        let (reason, finding) = (found.reason, found.finding.clone());
        let made_with = self.made_with();
        match self.memory.unmet.take() {
            Some(mut before) if before.reason == reason && before.made_with == made_with => {
                before.finding = finding;
                before
            }
            before => {
                let start_time = before.filter(|before| before.reason == reason).map(|before| before.start_time);
                Box::new(Unmet { reason, finding, start_time: start_time.unwrap_or(now), found_at: now, made_with })
            }
        }
    }

    /// Returns the problem that is reported, and how a status records it: of several, the first in the order of the reasons.
    fn reported_failure(
        &self,
        problem: Option<Problem>,
        awaits_permit: bool,
        now: Timestamp,
    ) -> (Option<Problem>, Option<Failure>) {
        let (found, pause) = match problem {
            Some(Problem { source: Source::Pause(until), .. }) => (None, self.pause(Some(until), now)),
            Some(found) if found.source == Source::Prerequisite => (Some(found), None),
            _ => (None, awaits_permit.then(|| self.pause(None, now)).flatten()),
        };
        let unmet = found.zip(self.memory.unmet.as_ref().map(|unmet| unmet.report()));
        let paused = pause.is_some();
        let pause = pause.map(|failure| {
            let source = Source::Attempt(Activity::Request);
            let finding = Finding { cause: Some(Cause::HttpStatus), ..Finding::default() };
            (Problem { reason: failure.reason, finding, detail: None, source }, failure)
        });
        // What failed with other inputs is not what the pause delays.
        let waits = self.memory.waits.failures().filter(|wait| !(paused && wait.activity == Activity::Request));
        let waits = waits.map(|wait| (Problem::of(wait), wait.report()));
        let mut found = waits.chain(unmet).chain(pause).min_by_key(|(problem, _)| problem.reason);
        if let Some((problem, failure)) = &mut found {
            explain(failure, problem, self.plan.as_ref().ok());
        }
        found.unzip()
    }

    /// Returns how a pause of the host is reported. It is no attempt of this resource: an earlier failure stays and keeps its
    /// count, a longer pause changes nothing, and it is reported until the request that waits for it was made.
    fn pause(&self, until: Option<Timestamp>, now: Timestamp) -> Option<Failure> {
        let made_with = self.made_with();
        if self.memory.waits.get(Activity::Request).is_some_and(|wait| wait.made_with == made_with) {
            return None;
        }
        let inputs = made_with.text("request");
        let before = self.status.failure.as_ref().filter(|failure| failure.reason == Reason::RateLimited);
        if let Some(before) = before.filter(|before| before.inputs.as_ref() == Some(&inputs)) {
            return Some(before.clone());
        }
        Some(Failure {
            reason: Reason::RateLimited,
            cause: None,
            message: None,
            start_time: before.map_or(whole(now), |before| before.start_time),
            count: None,
            last_attempt_time: None,
            next_attempt_time: Some(next_whole(until?)),
            inputs: Some(inputs),
        })
    }
}

fn status(
    s: &Situation,
    problem: Option<&Problem>,
    failure: Option<Failure>,
    suspended: bool,
    now: Timestamp,
) -> ArcGisAppCredentialStatus {
    let plan = s.plan.as_ref().ok();
    let state = s.token(now);
    let read = !matches!(state, Token::Unobserved | Token::Missing { assumed: true, .. });
    let published = state.target().and_then(|target| target.token.as_ref().map(|token| (target, token)));
    let reported = if read { published.map(|(_, token)| report(s, token)) } else { s.status.token.clone() };
    let current = published.is_some_and(|(target, token)| is_current(s, target, token));
    let satisfied = if current || reported.is_none() { s.generation } else { s.satisfied().unwrap_or(0) };
    let verifies = s.verifies();
    let verification = s.last_answer();
    let mut conditions = Conditions { s, now, list: Vec::new() };
    conditions.assess(problem, plan, reported.as_ref(), satisfied, suspended);
    if verifies {
        conditions.verified(verification.as_ref(), plan, satisfied);
    }
    ArcGisAppCredentialStatus {
        observed_generation: s.generation,
        conditions: conditions.list,
        portal: plan.map_or_else(|| s.status.portal.clone(), |plan| Some(plan.portal.to_string())),
        token: reported,
        rejection: s.rejection(),
        last_handled_request: s.memory.last_handled_request.clone(),
        target_version: if read && !is_unfinished(state, failure.as_ref()) {
            s.target.version().map(|version| version.resource.clone())
        } else {
            s.status.target_version.clone()
        },
        credentials_version: credentials_version(s, failure.as_ref()),
        app: match verification {
            Some(Verification::AppKnown(app)) => Some(reported_app(app)),
            Some(Verification::AppUnknown) => None,
            _ => s.status.app.clone().filter(|_| verifies),
        },
        failure,
    }
}

/// Whether the target holds what this generation specifies.
fn is_current(s: &Situation, target: &Evaluated, token: &TokenDetails) -> bool {
    target.rendered && s.is_as_specified(token.inputs.as_deref())
}

/// Whether the target was not seen, or something is left to do for it that a restart would not see: the Secret of the version that the status
/// reports counts as intact then, except for the owner reference when the status reports that this was refused.
fn is_unfinished(state: Token<'_>, failure: Option<&Failure>) -> bool {
    let Token::Published { in_target, .. } = state else { return false };
    let recalled = failure.is_some_and(|failure| Activity::of(failure) == Some(Activity::Own));
    in_target.is_reported() || !in_target.rendered || !(in_target.owned || recalled)
}

/// The portal chooses how many privileges it names.
fn reported_app(mut app: App) -> App {
    app.privileges.truncate(MAX_PRIVILEGES);
    app
}

fn credentials_version(s: &Situation, failure: Option<&Failure>) -> Option<String> {
    // A change that waits for its request is recorded with the failure of that request, which a restart repeats.
    let recorded = failure.is_some_and(|failure| Activity::of(failure) == Some(Activity::Request));
    if s.memory.demand.is_some() && !recorded {
        return s.status.credentials_version.clone();
    }
    match &s.credentials {
        Observed::Cached(version) if s.memory.facts.credentials.as_ref().is_none_or(|(last, _)| last != version) => {
            s.status.credentials_version.clone()
        }
        // A Secret that is recreated has to be recognized as another.
        Observed::Absent | Observed::Unknown => s.status.credentials_version.clone(),
        Observed::Cached(version) | Observed::Loaded(version, _) => Some(version.resource.clone()),
    }
}

fn report(s: &Situation, token: &TokenDetails) -> TokenStatus {
    TokenStatus {
        issue_time: token.issue_time,
        expiration_time: token.expiration_time,
        renewal_time: s.renewal_time(token),
        lifetime: format_seconds(token.expiration_time.as_second() - token.issue_time.as_second()),
    }
}

/// Returns at most one event: of the conditions that changed, the most important one.
fn change(before: &ArcGisAppCredentialStatus, after: &ArcGisAppCredentialStatus) -> Option<ConditionChange> {
    let find = |status: &ArcGisAppCredentialStatus, kind: &str| {
        status.conditions.iter().find(|c| c.type_ == kind && c.reason != "Pending").cloned()
    };
    let key = |c: Option<Condition>| c.map(|c| (c.status, c.reason));
    let changed = |kind: &str| key(find(before, kind)) != key(find(after, kind));
    let stalled = find(after, "Stalled").filter(|_| changed("Stalled"));
    let shown = stalled.or_else(|| {
        ["Stalled", "Ready", "Reconciling"].into_iter().any(changed).then(|| find(after, "Ready")).flatten()
    })?;
    Some(ConditionChange {
        warning: shown.type_ == "Stalled" || shown.status != "True",
        reason: shown.reason,
        message: shown.message,
    })
}
