//! Who gets a worker: by turns a reconcile that goes on after its request, and one that starts.

use std::hash::Hash;

use super::line::{Line, Priority};

/// The workers that are free, and the keys that wait for one to go on. Neither they nor the keys that wait to be started
/// wait for all of the others: many tokens that wait to be written delay no new resource.
pub struct WorkerPool<K> {
    free: usize,
    resuming: Line<K>,
    starts_wait: bool,
    /// Whose turn it is, where both wait.
    resumes_next: bool,
}

impl<K: Clone + Hash + Ord> WorkerPool<K> {
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { free: workers, resuming: Line::default(), starts_wait: false, resumes_next: true }
    }

    /// Takes a worker for a key that waits to be started, if any does.
    pub fn try_start(&mut self, waits: bool) -> bool {
        self.starts_wait = waits;
        let takes = waits && self.free > 0;
        if takes {
            self.free -= 1;
            self.resumes_next = true;
        }
        takes
    }

    /// Takes a worker to go on with, where nothing waits before it.
    pub fn try_resume(&mut self) -> bool {
        let takes = self.resuming.is_empty() && self.may_resume();
        if takes {
            self.take_to_resume();
        }
        takes
    }

    /// Waits for a worker to go on with.
    pub fn wait_to_resume(&mut self, key: K, priority: Priority) {
        self.resuming.insert(key, priority, None);
    }

    /// Returns a worker. [`WorkerPool::resume`] says who is next.
    pub fn release(&mut self) {
        self.free += 1;
    }

    /// Takes a worker for the key that goes on next.
    pub fn resume(&mut self) -> Option<K> {
        if !self.may_resume() {
            return None;
        }
        let (key, _) = self.resuming.pop()?;
        self.take_to_resume();
        Some(key)
    }

    /// Whether a worker is free for a key that waits to be started.
    #[must_use]
    pub fn may_start(&self) -> bool {
        self.free > 0 && self.starts_wait
    }

    fn may_resume(&self) -> bool {
        self.free > 0 && (self.resumes_next || !self.starts_wait)
    }

    fn take_to_resume(&mut self) {
        self.free -= 1;
        self.resumes_next = false;
    }
}
