//! When something is due: renewal, backoff, the order of work, and the limits of hosts.

mod all_waits;
mod finding;
mod host_limiter;
mod host_queue;
mod line;
mod outage;
pub(crate) mod schedule;
pub(crate) mod waits;
mod work_queue;
mod worker_pool;

pub use all_waits::Waits;
pub use finding::Finding;
pub use host_limiter::{Admit, Epoch, HostLimiter, Outcome, RetryAfterRecord, Turn};
pub use host_queue::HostQueue;
pub use line::Priority;
pub use schedule::{RESYNC_SECONDS, Repairs, renewal_time};
pub use waits::{Activity, Failed, MadeWith, Wait};
pub use work_queue::WorkQueue;
pub use worker_pool::WorkerPool;
