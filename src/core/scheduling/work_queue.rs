//! Which resource is reconciled when: at most one reconcile of a resource at a time, by turns one with a published token,
//! the one that expires first, and one without.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use jiff::Timestamp;

use super::line::{Line, Priority};
use crate::core::compact_time::CompactTime;

/// A queue of keys with due times.
pub struct WorkQueue<K> {
    due: HashMap<K, CompactTime>,
    delayed: BTreeSet<(CompactTime, K)>,
    ready: Line<K>,
    processing: HashSet<K>,
    /// Became due while it was processed: due again as soon as that ends.
    dirty: HashSet<K>,
}

impl<K> Default for WorkQueue<K> {
    fn default() -> Self {
        Self {
            due: HashMap::new(),
            delayed: BTreeSet::new(),
            ready: Line::default(),
            processing: HashSet::new(),
            dirty: HashSet::new(),
        }
    }
}

impl<K: Clone + Hash + Ord> WorkQueue<K> {
    /// Adds a key that is due at `at`, or brings it forward to `at`.
    pub fn add_at(&mut self, key: K, at: Timestamp) {
        // Nothing is due early.
        let at = CompactTime::not_before(at);
        if self.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        if let Some(before) = self.due.insert(key.clone(), at) {
            self.delayed.remove(&(before, key.clone()));
        }
        self.delayed.insert((at, key));
    }

    /// Returns when the next delayed key is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first().map(|(at, _)| Timestamp::from(*at))
    }

    /// Makes every key that is due at `now` ready to be processed.
    pub fn promote_due(&mut self, now: Timestamp, priority: impl Fn(&K) -> Priority) {
        while let Some((at, _)) = self.delayed.first()
            && Timestamp::from(*at) <= now
        {
            let Some((_, key)) = self.delayed.pop_first() else { break };
            self.due.remove(&key);
            if self.processing.contains(&key) {
                self.dirty.insert(key);
            } else {
                let priority = priority(&key);
                self.ready.insert(key, priority, None);
            }
        }
    }

    /// Whether a key is ready to be processed.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the next ready key; [`WorkQueue::done`] must follow.
    pub fn pop(&mut self) -> Option<K> {
        loop {
            let (key, _) = self.ready.pop()?;
            if self.processing.insert(key.clone()) {
                return Some(key);
            }
            self.dirty.insert(key);
        }
    }

    /// Ends the processing of a key. It is due again at `requeue_at`; without one it is forgotten.
    pub fn done(&mut self, key: K, requeue_at: Option<Timestamp>) {
        self.processing.remove(&key);
        if self.dirty.remove(&key) {
            self.add_at(key, Timestamp::MIN);
        } else if let Some(at) = requeue_at {
            self.add_at(key, at);
        }
    }
}
