//! Leader election: which replica acts.

mod lease;

pub use lease::{Candidate, Claim, Moment, Next, RETRY_PERIOD, Term};
