//! The objects that resources name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::resource::{Key, ObjectKind};
use crate::core::{Observed, ResourceVersion, Version};

/// How a watch came to report an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// By a list, which is believed also where versions went back: etcd may have been restored.
    Listed,
    Changed,
    Deleted,
}

/// What the watches report of an object.
enum Known {
    Nothing,
    /// It does not exist, with the version of its last deletion: what is older does not bring it back.
    Absent(Option<ResourceVersion>),
    Present(Version),
}

impl Known {
    fn observed<T>(&self) -> Observed<T> {
        match self {
            Self::Nothing => Observed::Unknown,
            Self::Absent(_) => Observed::Absent,
            Self::Present(version) => Observed::Cached(version.clone()),
        }
    }
}

/// The resources that name an object, sorted: mostly one, which takes no allocation.
enum Users {
    One(Key),
    Several(Vec<Key>),
}

impl Users {
    fn as_slice(&self) -> &[Key] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Several(keys) => keys,
        }
    }

    fn add(&mut self, key: &Key) {
        let Err(at) = self.as_slice().binary_search(key) else { return };
        let mut keys = self.as_slice().to_vec();
        keys.insert(at, key.clone());
        *self = Self::Several(keys);
    }

    /// Removes a resource; returns whether none is left.
    fn remove(&mut self, key: &Key) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Several(keys) => {
                keys.retain(|other| other != key);
                keys.is_empty()
            }
        }
    }
}

struct NamedObject {
    known: Known,
    /// A list that began while it was named has not returned it yet.
    awaited: bool,
    users: Users,
}

/// The objects of one kind that resources name. Boxed, because a map keeps room for many more than it holds.
type Named = HashMap<Key, Box<NamedObject>>;

/// The objects that resources name, and what the watches report of them.
#[derive(Default)]
pub(super) struct Objects {
    secrets: Named,
    config_maps: Named,
    /// How many ConfigMaps are named in each namespace.
    config_maps_in: BTreeMap<String, usize>,
}

impl NamedObject {
    /// Whether an event is of an older version, or of an object that another of the same name replaced.
    fn is_outdated(&self, version: &Version, seen: Seen) -> bool {
        let Known::Present(known) = &self.known else { return false };
        version.resource.is_older_than(&known.resource) || (seen == Seen::Deleted && known.uid != version.uid)
    }

    /// Records an event; returns whether it changed what is known.
    fn observe(&mut self, version: Version, seen: Seen) -> bool {
        // A list is believed, unless something newer was seen since it began.
        let believed = std::mem::take(&mut self.awaited) && seen == Seen::Listed;
        if !believed && self.is_outdated(&version, seen) {
            return false;
        }
        self.know(match seen {
            Seen::Deleted => Known::Absent(Some(version.resource)),
            Seen::Listed | Seen::Changed => Known::Present(version),
        })
    }

    /// Notes what is known; returns whether that is news.
    fn know(&mut self, known: Known) -> bool {
        let before = std::mem::replace(&mut self.known, known).observed::<()>();
        self.known.observed() != before
    }

    /// Records what a call returned that began when `before` was known; returns whether it changed what is known.
    fn record(&mut self, before: &Observed<()>, now: Option<&Version>) -> bool {
        let Some(version) = now else {
            if self.known.observed() != *before {
                return false;
            }
            self.awaited = false;
            return *before != Observed::Absent && self.know(Known::Absent(None));
        };
        let newer_seen = match &self.known {
            Known::Nothing => None,
            Known::Absent(deleted) => deleted.as_ref(),
            Known::Present(known) => Some(&known.resource),
        };
        let stale = newer_seen.is_some_and(|newer| version.resource.is_older_than(newer));
        // A deletion that the watch reported meanwhile is newer.
        if stale || (matches!(self.known, Known::Absent(_)) && *before != Observed::Absent) {
            return false;
        }
        self.awaited = false;
        self.know(Known::Present(version.clone()))
    }
}

impl Objects {
    fn named(&self, kind: ObjectKind) -> &Named {
        match kind {
            ObjectKind::Secret => &self.secrets,
            ObjectKind::ConfigMap => &self.config_maps,
        }
    }

    fn named_mut(&mut self, kind: ObjectKind) -> &mut Named {
        match kind {
            ObjectKind::Secret => &mut self.secrets,
            ObjectKind::ConfigMap => &mut self.config_maps,
        }
    }

    /// Notes that a resource uses these objects.
    pub fn add_user(&mut self, key: &Key, objects: impl Iterator<Item = (ObjectKind, Key)>) {
        for (kind, name) in objects {
            if let Some(named) = self.named_mut(kind).get_mut(&name) {
                named.users.add(key);
                continue;
            }
            if kind == ObjectKind::ConfigMap {
                *self.config_maps_in.entry(key.namespace().to_owned()).or_default() += 1;
            }
            let users = Users::One(key.clone());
            self.named_mut(kind).insert(name, Box::new(NamedObject { known: Known::Nothing, awaited: false, users }));
        }
    }

    /// Notes that a resource uses these objects no longer. One that none uses is not kept.
    pub fn remove_user(&mut self, key: &Key, objects: impl Iterator<Item = (ObjectKind, Key)>) {
        for (kind, name) in objects {
            if self.named_mut(kind).get_mut(&name).is_some_and(|named| named.users.remove(key)) {
                self.named_mut(kind).remove(&name);
                if kind == ObjectKind::ConfigMap {
                    self.remove_config_map(key.namespace());
                }
            }
        }
    }

    fn remove_config_map(&mut self, namespace: &str) {
        let Some(count) = self.config_maps_in.get_mut(namespace) else { return };
        *count -= 1;
        if *count == 0 {
            self.config_maps_in.remove(namespace);
        }
    }

    /// Returns the resources that name an object.
    pub fn users(&self, kind: ObjectKind, name: &Key) -> &[Key] {
        self.named(kind).get(name).map_or(&[], |named| named.users.as_slice())
    }

    pub fn observe(&mut self, kind: ObjectKind, key: &Key, version: Version, seen: Seen) -> Vec<Key> {
        let Some(named) = self.named_mut(kind).get_mut(key) else { return Vec::new() };
        if named.observe(version, seen) { named.users.as_slice().to_vec() } else { Vec::new() }
    }

    /// Whether a resource in the namespace, or in any, names a ConfigMap.
    pub fn names_config_maps(&self, namespace: Option<&str>) -> bool {
        namespace.map_or(!self.config_maps_in.is_empty(), |namespace| self.config_maps_in.contains_key(namespace))
    }

    pub fn begin_list(&mut self, kind: ObjectKind, namespace: Option<&str>) {
        for (key, named) in self.named_mut(kind) {
            named.awaited |= key.is_in(namespace);
        }
    }

    pub fn complete_list(&mut self, kind: ObjectKind, namespace: Option<&str>) -> Vec<Key> {
        let mut woken = BTreeSet::new();
        for (key, named) in self.named_mut(kind) {
            if key.is_in(namespace) && std::mem::take(&mut named.awaited) && named.know(Known::Absent(None)) {
                woken.extend(named.users.as_slice().iter().cloned());
            }
        }
        woken.into_iter().collect()
    }

    pub fn observed<T>(&self, kind: ObjectKind, name: &Key) -> Observed<T> {
        self.named(kind).get(name).map_or(Observed::Unknown, |named| named.known.observed())
    }

    pub fn record(&mut self, kind: ObjectKind, name: &Key, before: &Observed<()>, now: Option<&Version>) -> Vec<Key> {
        let Some(named) = self.named_mut(kind).get_mut(name) else { return Vec::new() };
        if named.record(before, now) { named.users.as_slice().to_vec() } else { Vec::new() }
    }
}
