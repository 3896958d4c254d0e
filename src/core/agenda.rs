//! Who is looked at when: at most one look at a resource at a time, the soonest to expire first.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use jiff::Timestamp;

/// Soonest to expire first; a resource without a token before all others.
pub type Priority = Option<Timestamp>;

/// What is to be done, and by when.
pub struct Agenda<K> {
    planned: HashMap<K, Timestamp>,
    queue: BTreeSet<(Timestamp, K)>,
    ready: BTreeSet<(Priority, K)>,
    running: HashSet<K>,
    /// Woken while running: to be looked at again right after.
    again: HashSet<K>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self {
            planned: HashMap::new(),
            queue: BTreeSet::new(),
            ready: BTreeSet::new(),
            running: HashSet::new(),
            again: HashSet::new(),
        }
    }
}

impl<K: Clone + Hash + Ord> Agenda<K> {
    /// Looks at a resource no later than `at`.
    pub fn plan(&mut self, key: K, at: Timestamp) {
        if self.planned.get(&key).is_some_and(|planned| *planned <= at) {
            return;
        }
        if let Some(before) = self.planned.insert(key.clone(), at) {
            self.queue.remove(&(before, key.clone()));
        }
        self.queue.insert((at, key));
    }

    /// When the next look is due.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Makes ready what is due.
    pub fn advance(&mut self, now: Timestamp, priority: impl Fn(&K) -> Priority) {
        while let Some((at, _)) = self.queue.first()
            && *at <= now
        {
            let Some((_, key)) = self.queue.pop_first() else { break };
            self.planned.remove(&key);
            if self.running.contains(&key) {
                self.again.insert(key);
            } else {
                self.ready.insert((priority(&key), key));
            }
        }
    }

    /// The next to look at; [`Agenda::done`] must follow.
    pub fn start(&mut self) -> Option<K> {
        loop {
            let (_, key) = self.ready.pop_first()?;
            // A changed priority may have put it there twice.
            if self.running.insert(key.clone()) {
                return Some(key);
            }
            self.again.insert(key);
        }
    }

    /// A look has ended; the next one comes at `wake`, if it is still there.
    pub fn done(&mut self, key: K, wake: Option<Timestamp>) {
        self.running.remove(&key);
        if self.again.remove(&key) {
            self.plan(key, Timestamp::MIN);
        } else if let Some(at) = wake {
            self.plan(key, at);
        }
    }
}
