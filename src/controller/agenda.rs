//! Who is looked at when: at most one look at a resource at a time, the soonest to expire first.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use super::hosts::Priority;
use super::index::Key;

/// What is to be done, and by when.
#[derive(Default)]
pub struct Agenda {
    planned: HashMap<Key, Timestamp>,
    queue: BTreeSet<(Timestamp, Key)>,
    ready: BTreeSet<(Priority, Key)>,
    running: HashSet<Key>,
    /// Woken while running: to be looked at again right after.
    again: HashSet<Key>,
}

impl Agenda {
    /// Looks at a resource no later than `at`.
    pub fn plan(&mut self, key: Key, at: Timestamp) {
        if self.planned.get(&key).is_some_and(|planned| *planned <= at) {
            return;
        }
        if let Some(before) = self.planned.insert(key.clone(), at) {
            self.queue.remove(&(before, key.clone()));
        }
        self.queue.insert((at, key));
    }

    /// When the next look is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Makes ready what is due.
    pub fn advance(&mut self, now: Timestamp, priority: impl Fn(&Key) -> Priority) {
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
    pub fn start(&mut self) -> Option<Key> {
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
    pub fn done(&mut self, key: Key, wake: Option<Timestamp>) {
        self.running.remove(&key);
        if self.again.remove(&key) {
            self.plan(key, Timestamp::MIN);
        } else if let Some(at) = wake {
            self.plan(key, at);
        }
    }
}
