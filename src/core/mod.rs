//! What to do, without doing it: no I/O, no clock, no async.
//!
//! A [`Situation`] holds what is known of one resource, [`decide`] names the next step, and [`conclude`] turns the
//! outcome into a status, an event and the next due time. Everything else here serves those three.
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`compact_time`] | a time in half of the room | nothing |
//! | `hex` | hexadecimal digits | nothing |
//! | [`object`] | which object, in which version | `hex` |
//! | [`rare`] | a value that takes the room of a pointer until it is changed | nothing |
//! | [`server_clock`] | whether the clocks of this machine and of a server differ | nothing |
//! | [`spec`] | a specification, parsed | nothing |
//! | [`secrets`] | credentials, tokens and the target Secret | `hex`, `object`, `spec` |
//! | [`scheduling`] | due times, backoff, the work queue and the limits of hosts | `compact_time`, `rare` |
//! | [`election`] | the rules of leader election | nothing |
//! | [`reconcile`] | situation, decision and transitions | all of those |
//! | [`reconciliation`] | the loop of one reconcile, without its calls | all of those |
//! | [`report`] | the status, its conditions and the event that a reconcile ends with | all of those |

pub mod compact_time;
pub mod election;
pub(crate) mod hex;
pub mod object;
pub mod rare;
pub mod reconcile;
pub mod reconciliation;
pub mod report;
pub mod scheduling;
pub mod secrets;
pub mod server_clock;
pub mod spec;
#[cfg(test)]
pub(crate) mod tests;

pub use crate::api::is_subdomain;
pub use compact_time::CompactTime;
pub use election::{Candidate, Claim, Moment, Next, RETRY_PERIOD, Term};
pub use object::{Identity, Observed, ResourceVersion, Uid, Version};
pub use reconcile::{Memory, Problem, Reported, Situation, Source, Step, Trigger, Verdict, VerificationState, decide};
pub use reconciliation::{Answer, Edge, Progress, Reconciliation};
pub use report::{Conclusion, ConditionChange, EventQueue, conclude, describe};
pub use scheduling::{
    Activity, Admit, Epoch, Failed, Finding, HostLimiter, HostQueue, MadeWith, Outcome, Priority, RESYNC_SECONDS,
    RetryAfterRecord, Turn, Wait, Waits, WorkQueue, WorkerPool, renewal_time,
};
pub use secrets::{
    AccessToken, ClientCertificateError, Creations, Credentials, CredentialsError, DesiredSecret, Digester,
    Fingerprint, IssuedToken, LiveSecret, MAX_TARGET_BYTES, Owner, SecretPatch, fingerprint, fits, render,
    rendered_size, zero,
};
pub use server_clock::{ServerClock, clock_differs};
pub use spec::{
    AllowedOrigin, DurationError, OriginError, OriginMatch, Plan, PortalUrl, PortalUrlError, REFERER_ADVICE,
    SelectorError, SpecError, TargetPlan, Template, TemplateError, VerificationPlan, format_seconds, is_referer,
    parse_duration, parse_selector,
};
