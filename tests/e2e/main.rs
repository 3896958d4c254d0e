//! Tests of the operator on a real control plane, with the test portal and with faults injected at both.
//!
//! `secrets_in_output` searches the output of the other tests, so `make test` runs it after them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may")]

#[path = "../support/mod.rs"]
mod support;

mod admin_port;
mod admission;
mod admission_agrees;
mod apiserver_faults;
mod attacks;
mod busy_host;
mod busy_workers;
mod causes;
mod certificates;
mod cli;
mod client_certificates;
mod cluster_faults;
mod cost;
mod creations;
mod examples;
mod gitops;
mod hand_over;
mod kubectl;
mod leader_election;
mod memory;
mod migration;
mod network;
mod older_crd;
mod policies;
mod portal_failures;
mod probes;
mod referers;
mod refusals;
mod requests;
mod restarts;
mod restored_etcd;
mod retries;
mod secrets_in_memory;
mod secrets_in_output;
mod sources;
mod start;
mod status;
mod target_ownership;
mod token_lifecycle;
mod trust;
mod upgrade;
mod verification;
