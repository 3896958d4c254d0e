//! One reconcile of one resource: what is known, and what to do next.

pub(crate) mod decide;
pub(crate) mod facts;
pub(crate) mod memory;
mod owed;
mod prerequisites;
mod settle;
pub(crate) mod situation;
pub(crate) mod token;
mod transitions;
pub(crate) mod verdict;
mod verification;

pub use decide::decide;
pub use memory::{Memory, Reported, VerificationState};
pub use situation::Situation;
pub use token::Trigger;
pub use verdict::{Problem, Source, Step, Verdict};
