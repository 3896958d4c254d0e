//! The client of the Kubernetes API: the few calls in use, each with a time-out and errors of its own.

mod client;
mod connection;
mod error;
mod events;
mod lean;
mod leases;
mod rights;
mod silence;

pub use client::{Cluster, version};
pub use connection::{AccessError, Clocks, LIMITED_PAGE, access, is_too_large};
pub use error::{ApiError, bounded};
pub use events::publish;
pub use lean::{LeanObject, LeanResource};
pub use leases::Leases;
pub use rights::{NEEDED, Right};
