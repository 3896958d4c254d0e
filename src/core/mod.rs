//! What to do, and nothing that does it: no I/O, no clock, no async.
//!
//! [`Situation`] holds what is known of one resource, [`decide`] names the next step, and [`conclude`] turns the
//! outcome into a status, an event and the next wake-up. Everything else here serves those three.

mod attempt;
mod conclude;
mod credential;
mod decide;
mod duration;
mod host_limiter;
mod lease;
mod message;
mod plan;
mod portal;
mod schedule;
mod selector;
mod situation;
mod target;
mod template;
#[cfg(test)]
mod tests;
pub mod token;
mod transitions;
mod work_queue;

pub use attempt::{Attempt, AttemptKind, RetryState};
pub use conclude::{Conclusion, ConditionChange, conclude};
pub use credential::{Credentials, CredentialsError, Digester};
pub use decide::{Problem, Step, Verdict, decide};
pub use duration::{DurationError, format_seconds, parse_duration};
pub use host_limiter::{Admit, HostLimiter, HostQueue, Outcome, RetryAfterRecord};
pub use lease::{Candidate, Claim, Moment, Next, RETRY_PERIOD, Term};
pub use plan::{Plan, SpecError, TargetPlan, is_subdomain};
pub use portal::{AllowedOrigin, OriginError, OriginMatch, PortalUrl, PortalUrlError};
pub use schedule::{RESYNC_SECONDS, renew_at};
pub use selector::{SelectorError, parse_selector};
pub use situation::{Identity, Memory, Observed, Situation, Version};
pub use target::{DesiredSecret, IssuedToken, LiveSecret, Owner, fingerprint, render, zero};
pub use template::{Template, TemplateError};
pub use work_queue::{Priority, WorkQueue};
