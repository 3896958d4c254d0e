//! What was seen of a failure, beside its reason.

use crate::api::{Cause, Failure, Fault, Reason, Seen};

/// What was seen of a failure, beside its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    pub cause: Option<Cause>,
    pub seen: Seen,
    /// The message of the status that recorded the failure before a restart. What was seen then is not known any more.
    pub message: Option<String>,
}

impl Finding {
    #[must_use]
    pub fn fault(&self, reason: Reason) -> Fault {
        Fault { reason, cause: self.cause, seen: self.seen.clone() }
    }

    /// Restores it from a status. A cause of a newer version is left out, and its message stays.
    #[must_use]
    pub fn recall(failure: &Failure) -> Self {
        let cause = failure.cause.as_deref().and_then(Cause::parse);
        Self { cause, seen: Seen::default(), message: failure.message.clone() }
    }
}

impl From<Fault> for Finding {
    fn from(fault: Fault) -> Self {
        Self { cause: fault.cause, seen: fault.seen, message: None }
    }
}
