//! The events that wait to be sent: a bounded queue.

use std::collections::VecDeque;

/// Events that wait. More of them than the API server takes are dropped, the least important first.
const MAX_EVENTS: usize = 1000;

/// Events in the order in which they are sent.
#[derive(Debug)]
pub struct EventQueue<T> {
    /// Each with whether it is a warning.
    events: VecDeque<(bool, T)>,
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        Self { events: VecDeque::new() }
    }
}

impl<T> EventQueue<T> {
    /// Adds an event; returns the one that is dropped for it where too many wait: the oldest that is no warning, else the
    /// oldest.
    pub fn push(&mut self, warning: bool, event: T) -> Option<T> {
        self.events.push_back((warning, event));
        if self.events.len() <= MAX_EVENTS {
            return None;
        }
        let oldest = self.events.iter().position(|(warning, _)| !warning).unwrap_or(0);
        self.events.remove(oldest).map(|(_, event)| event)
    }

    /// Removes the event that is sent next.
    pub fn pop(&mut self) -> Option<T> {
        self.events.pop_front().map(|(_, event)| event)
    }
}
