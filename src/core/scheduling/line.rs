//! A line that is served by turns: one key with a published token, one without.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use jiff::Timestamp;

/// The places that there is room for while nothing waits.
const KEPT_PLACES: usize = 64;

/// The expiration of the resource's token; `None` without one.
pub type Priority = Option<Timestamp>;

/// The place of a key: by expiration, or by when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Published(Timestamp),
    Without(u64),
}

/// Keys in a line. Of those with a published token, the one that expires first is served first; of those without, the one
/// that came first. Neither kind waits for all of the other: a mass creation delays no renewal, and renewals no creation.
pub(super) struct Line<K> {
    published: BTreeSet<(Timestamp, K)>,
    without: BTreeSet<(u64, K)>,
    places: HashMap<K, Place>,
    came: u64,
    /// Whose turn it is, where both wait.
    published_next: bool,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self {
            published: BTreeSet::new(),
            without: BTreeSet::new(),
            places: HashMap::new(),
            came: 0,
            published_next: true,
        }
    }
}

impl<K: Clone + Hash + Ord> Line<K> {
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds a key, or moves it where its priority has changed. `kept`: the place that it had before.
    pub fn insert(&mut self, key: K, priority: Priority, kept: Option<Place>) {
        let before = self.remove(&key).or(kept);
        let place = match (priority, before) {
            (Some(expiration), _) => Place::Published(expiration),
            (None, Some(place @ Place::Without(_))) => place,
            (None, _) => {
                self.came += 1;
                Place::Without(self.came)
            }
        };
        self.places.insert(key.clone(), place);
        match place {
            Place::Published(expiration) => self.published.insert((expiration, key)),
            Place::Without(came) => self.without.insert((came, key)),
        };
    }

    /// Takes a key out of the line; returns its place.
    pub fn remove(&mut self, key: &K) -> Option<Place> {
        let (key, place) = self.places.remove_entry(key)?;
        match place {
            Place::Published(expiration) => self.published.remove(&(expiration, key)),
            Place::Without(came) => self.without.remove(&(came, key)),
        };
        if self.places.is_empty() {
            // All resources at once leave much room.
            self.places.shrink_to(KEPT_PLACES);
        }
        Some(place)
    }

    /// Takes the key whose turn it is.
    pub fn pop(&mut self) -> Option<(K, Place)> {
        let published = self.published_next && !self.published.is_empty() || self.without.is_empty();
        let key = if published {
            self.published.first().map(|(_, key)| key.clone())?
        } else {
            self.without.first().map(|(_, key)| key.clone())?
        };
        self.published_next = !published;
        self.remove(&key).map(|place| (key, place))
    }
}
