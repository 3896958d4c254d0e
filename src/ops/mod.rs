//! What an operator of the operator sees: metrics, health and logs. It is told things and asked nothing.

mod admin;
mod metrics;
mod readiness;
mod telemetry;

pub use admin::{bind, serve};
pub use metrics::Metrics;
pub use readiness::Readiness;
pub use telemetry::{LogFormat, LogLevel, init};
