//! One reconcile of one resource: what is known, what to do next, and what to report.

mod checks;
mod conclude;
mod conditions;
mod decide;
pub(crate) mod message;
mod prerequisites;
pub(crate) mod retry;
pub(crate) mod situation;
mod transitions;
pub(crate) mod verdict;
mod verification;

pub use checks::Checks;
pub use conclude::{Conclusion, ConditionChange, conclude};
pub use decide::decide;
pub use retry::{Attempt, AttemptKind, RetryState};
pub use situation::{Memory, Situation};
pub use verdict::{Problem, Step, Verdict};
