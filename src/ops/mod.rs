//! What an administrator sees of the operator: metrics, health and logs.

mod admin;
mod hardening;
mod metrics;
mod readiness;
mod series;
mod telemetry;

pub use admin::{bind, serve};
pub use hardening::seal_memory;
pub use metrics::Metrics;
pub use readiness::Readiness;
pub use telemetry::{LogFormat, LogLevel, init};
