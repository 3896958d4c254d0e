//! The controller: watches feed the index, the index requeues resources, and the event loop reconciles what is due.

mod clock_monitor;
mod context;
mod event_loop;
mod host_limiters;
mod leader_election;
mod preflight;
mod reconciler;
mod sources;
mod steps;
#[cfg(test)]
mod tests;
mod verifier;
mod watch_set;
mod watches;

pub use event_loop::{Options, Parts, run};
