//! The controller: watches feed the index, the index requeues resources, and the event loop reconciles what is due.

mod calls;
mod clock_monitor;
mod context;
mod event_loop;
mod events;
mod held;
mod host_limiters;
mod host_recovery;
mod leader_election;
mod observe;
mod preflight;
mod reads;
mod reconciler;
mod relist;
mod report;
mod revision_check;
mod revisions;
mod run;
mod sources;
mod target;
#[cfg(test)]
mod tests;
mod verifier;
mod watch_event;
mod watch_set;
mod watches;
mod workers;

pub use run::{Options, Parts, run};
pub use sources::{Objects, client_certificate, credentials, fetch_ca};
