//! One reconcile of one resource: what is known, what to do next, and what to report.

mod checks;
mod conclude;
mod conditions;
pub(crate) mod decide;
pub(crate) mod message;
pub(crate) mod retry;
pub(crate) mod situation;
mod transitions;
mod verification;

pub use checks::Checks;
pub use conclude::{Conclusion, ConditionChange, conclude};
pub use decide::{Problem, Step, Verdict, decide};
pub use retry::{Attempt, AttemptKind, RetryState};
pub use situation::{Memory, Situation};
