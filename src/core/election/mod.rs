//! Leader election: which replica acts.

mod lease;
mod undone;

pub use lease::{Candidate, Claim, Moment, Next, RETRY_PERIOD, Term};
