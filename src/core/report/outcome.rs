//! Whether the status was written.

use jiff::Timestamp;

use crate::core::reconcile::memory::{Memory, Reported};
use crate::core::scheduling::waits::{Activity, Failed, MadeWith, Wait};

impl Memory {
    /// Records that the status was written, or that there was nothing to write.
    pub fn report_succeeded(&mut self, reported: Reported) {
        self.reported = reported;
        self.waits.remove(Activity::Report);
    }

    /// Records that the status was not written; returns when it is written again, and whether it fails for another reason
    /// than before.
    pub fn report_failed(
        &mut self,
        uid: &str,
        failed: Failed,
        made_with: MadeWith,
        now: Timestamp,
    ) -> (Timestamp, bool) {
        let previous = self.waits.get(Activity::Report);
        let news = previous.is_none_or(|previous| previous.reason != failed.reason);
        let wait = Wait::next(previous, uid, failed, made_with, now);
        let until = wait.next_attempt;
        self.waits.insert(wait);
        (until, news)
    }
}
