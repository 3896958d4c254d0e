//! One reconcile of one resource: what is known, what to do next, and what to report.

mod conclude;
mod conditions;
pub(crate) mod decide;
mod difference;
pub(crate) mod facts;
pub(crate) mod memory;
pub(crate) mod message;
mod owed;
mod prerequisites;
mod reconciliation;
mod renewals;
pub(crate) mod situation;
pub(crate) mod token;
mod transitions;
pub(crate) mod verdict;
mod verification;

pub use conclude::{Conclusion, ConditionChange, conclude};
pub use decide::decide;
pub use memory::{Memory, VerificationState};
pub use message::describe;
pub use reconciliation::{Answer, Edge, Progress, Reconciliation};
pub use situation::Situation;
pub use token::Trigger;
pub use verdict::{Problem, Source, Step, Verdict};
