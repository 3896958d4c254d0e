//! The objects that resources name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::resource::{Key, ObjectKind};
use crate::core::{Observed, Version};

/// How a watch came to report an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// By a list, which is believed also where versions went back: etcd may have been restored.
    Listed,
    Changed,
    Deleted,
}

struct NamedObject {
    /// As the watch reports it: never loaded.
    observed: Observed<()>,
    /// The version of its last deletion: what is older does not bring it back.
    deleted: Option<Arc<str>>,
    /// A list that began while it was named has not returned it yet.
    awaited: bool,
    /// The resources that name it, sorted: mostly one.
    users: Vec<Key>,
}

/// The objects that resources name, and what the watches report of them.
#[derive(Default)]
pub(super) struct Objects {
    /// Boxed, because a map keeps room for many more than it holds.
    named: HashMap<(ObjectKind, Key), Box<NamedObject>>,
    /// How many ConfigMaps are named in each namespace.
    config_maps: BTreeMap<String, usize>,
}

/// Whether `a` is older than `b`; versions are numbers that grow, and what is not a number is taken as new.
pub(super) fn older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

impl NamedObject {
    /// Whether an event is of an older version, or of an object that another of the same name replaced.
    fn is_outdated(&self, version: &Version, seen: Seen) -> bool {
        let Observed::Cached(known) = &self.observed else { return false };
        older(&version.resource, &known.resource) || (seen == Seen::Deleted && known.uid != version.uid)
    }

    /// Records an event; returns whether it changed what is known.
    fn observe(&mut self, version: Version, seen: Seen) -> bool {
        // A list is believed, unless something newer was seen since it began.
        let believed = std::mem::take(&mut self.awaited) && seen == Seen::Listed;
        if !believed && self.is_outdated(&version, seen) {
            return false;
        }
        let observed = match seen {
            Seen::Deleted => {
                self.deleted = Some(version.resource.clone());
                Observed::Absent
            }
            Seen::Listed | Seen::Changed => {
                self.deleted.take_if(|_| believed);
                Observed::Cached(version)
            }
        };
        self.know(observed)
    }

    /// Notes what is known; returns whether that is news. What is the same stays shared with those that remember it.
    fn know(&mut self, observed: Observed<()>) -> bool {
        let news = observed != self.observed;
        if news {
            self.observed = observed;
        }
        news
    }

    /// Records what a call returned that began when `before` was known; returns whether it changed what is known.
    fn record(&mut self, before: &Observed<()>, now: Option<&Version>) -> bool {
        let Some(version) = now else {
            let news = self.observed == *before && self.observed != Observed::Absent;
            if self.observed == *before {
                (self.observed, self.awaited) = (Observed::Absent, false);
            }
            return news;
        };
        let newer_seen = match &self.observed {
            Observed::Cached(known) => Some(&*known.resource),
            _ => self.deleted.as_deref(),
        };
        let stale = newer_seen.is_some_and(|newer| older(&version.resource, newer));
        // A deletion that the watch reported meanwhile is newer.
        if stale || (self.observed == Observed::Absent && *before != Observed::Absent) {
            return false;
        }
        self.awaited = false;
        self.know(Observed::Cached(version.clone()))
    }
}

impl Objects {
    /// Notes that a resource uses these objects.
    pub fn add_user(&mut self, key: &Key, refs: &[(ObjectKind, Key)]) {
        for id in refs {
            let config_maps = &mut self.config_maps;
            let named = self.named.entry(id.clone()).or_insert_with(|| {
                if id.0 == ObjectKind::ConfigMap {
                    *config_maps.entry(key.namespace().to_owned()).or_default() += 1;
                }
                Box::new(NamedObject {
                    observed: Observed::Unknown,
                    deleted: None,
                    awaited: false,
                    users: Vec::with_capacity(1),
                })
            });
            if let Err(at) = named.users.binary_search(key) {
                named.users.insert(at, key.clone());
            }
        }
    }

    /// Notes that a resource uses these objects no longer. One that none uses is not kept.
    pub fn remove_user(&mut self, key: &Key, refs: &[(ObjectKind, Key)]) {
        for id in refs {
            let Some(named) = self.named.get_mut(id) else { continue };
            if let Ok(at) = named.users.binary_search(key) {
                named.users.remove(at);
            }
            if named.users.is_empty() {
                self.named.remove(id);
                if id.0 == ObjectKind::ConfigMap {
                    self.remove_config_map(key.namespace());
                }
            }
        }
    }

    fn remove_config_map(&mut self, namespace: &str) {
        let Some(count) = self.config_maps.get_mut(namespace) else { return };
        *count -= 1;
        if *count == 0 {
            self.config_maps.remove(namespace);
        }
    }

    /// Returns the resources that name an object.
    pub fn users(&self, id: &(ObjectKind, Key)) -> &[Key] {
        self.named.get(id).map_or(&[], |named| &named.users)
    }

    pub fn observe(&mut self, kind: ObjectKind, key: Key, version: Version, seen: Seen) -> Vec<Key> {
        let Some(named) = self.named.get_mut(&(kind, key)) else { return Vec::new() };
        if named.observe(version, seen) { named.users.clone() } else { Vec::new() }
    }

    /// Whether a resource in the namespace, or in any, names a ConfigMap.
    pub fn names_config_maps(&self, namespace: Option<&str>) -> bool {
        namespace.map_or(!self.config_maps.is_empty(), |namespace| self.config_maps.contains_key(namespace))
    }

    pub fn begin_list(&mut self, kind: ObjectKind, namespace: Option<&str>) {
        for ((of, key), named) in &mut self.named {
            named.awaited |= *of == kind && key.is_in(namespace);
        }
    }

    pub fn complete_list(&mut self, kind: ObjectKind, namespace: Option<&str>) -> Vec<Key> {
        let mut woken = BTreeSet::new();
        for ((of, key), named) in &mut self.named {
            let listed = *of == kind && key.is_in(namespace);
            if listed && std::mem::take(&mut named.awaited) && named.observed != Observed::Absent {
                named.observed = Observed::Absent;
                woken.extend(named.users.iter().cloned());
            }
        }
        woken.into_iter().collect()
    }

    pub fn observed<T>(&self, id: &(ObjectKind, Key)) -> Observed<T> {
        self.named.get(id).map_or(Observed::Unknown, |named| named.observed.unloaded())
    }

    pub fn record(&mut self, id: &(ObjectKind, Key), before: &Observed<()>, now: Option<&Version>) -> Vec<Key> {
        let Some(named) = self.named.get_mut(id) else { return Vec::new() };
        if named.record(before, now) { named.users.clone() } else { Vec::new() }
    }
}
