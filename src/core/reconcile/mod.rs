//! One reconcile of one resource: what is known, what to do next, and what to report.

mod conclude;
mod conditions;
mod decide;
pub(crate) mod facts;
pub(crate) mod memory;
pub(crate) mod message;
mod prerequisites;
mod reconciliation;
pub(crate) mod situation;
pub(crate) mod token;
mod transitions;
pub(crate) mod verdict;
mod verification;
pub(crate) mod waits;

pub use conclude::{Conclusion, ConditionChange, conclude};
pub use decide::decide;
pub use memory::Memory;
pub use reconciliation::{Answer, Edge, Progress, Reconciliation};
pub use situation::Situation;
pub use token::Trigger;
pub use verdict::{Problem, Source, Step, Verdict};
pub use verification::VerificationState;
pub use waits::{Activity, Failed, MadeWith, Wait};
