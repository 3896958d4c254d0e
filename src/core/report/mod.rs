//! What a reconcile reports: the status, its conditions, and the event.

mod conclude;
mod conditions;
mod difference;
mod event_queue;
mod events;
pub(crate) mod failure;
pub(crate) mod message;
mod outcome;
mod status;

pub use conclude::{Conclusion, conclude};
pub use event_queue::EventQueue;
pub use events::ConditionChange;
pub use message::describe;
