//! What is remembered of failures after a decision to rest: what was resolved meanwhile is forgotten.

use jiff::Timestamp;

use super::facts::Unmet;
use super::situation::Situation;
use super::token::{Token, Trigger};
use super::verdict::{Problem, Source};
use crate::api::Reason;
use crate::core::scheduling::waits::{Activity, Wait};

impl Situation {
    /// Brings what is remembered of failures in line with what was found.
    pub(crate) fn settle(&mut self, problem: Option<&Problem>, now: Timestamp) {
        for activity in [Activity::Read, Activity::Write, Activity::Own] {
            if self.memory.waits.get(activity).is_some_and(|wait| self.is_resolved(wait, now)) {
                self.memory.waits.remove(activity);
            }
        }
        let found = problem.filter(|problem| problem.source == Source::Prerequisite);
        self.memory.unmet = found.map(|found| self.remember_unmet(found, now));
        if matches!(problem, Some(Problem { source: Source::Pause(_), .. })) && self.asked() {
            // It counts even if it is withdrawn during the pause, as after a restart.
            self.memory.pinned.get_or_insert(Trigger::Requested);
        }
    }

    /// Whether a failure is resolved: nothing is left to do about it, or it was done again and did not fail.
    fn is_resolved(&self, wait: &Wait, now: Timestamp) -> bool {
        // The wait is over, and the decision is to rest anyway: nothing is left to try.
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

    fn remember_unmet(&mut self, found: &Problem, now: Timestamp) -> Box<Unmet> {
        let (reason, finding, made_with) = (found.reason, found.finding.clone(), self.made_with());
        let before = self.memory.unmet.take().filter(|before| before.reason == reason);
        match before {
            Some(before) if before.made_with == made_with => Box::new(Unmet { finding, ..*before }),
            before => {
                let start_time = before.map_or(now, |before| before.start_time);
                Box::new(Unmet { reason, finding, start_time, found_at: now, made_with })
            }
        }
    }
}
