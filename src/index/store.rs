//! The resources, and the objects that they name.

use std::collections::{BTreeSet, HashMap};

use super::resource::{IndexedResource, Key, ObjectKind, Report};
use crate::api::ArcGisAppCredentialStatus;
use crate::cluster::LeanResource;
use crate::core::{Memory, Observed, Version};

struct Watched {
    /// As the watch reports it: never loaded.
    observed: Observed<()>,
    /// A list that began while it was named has not returned it yet.
    awaited: bool,
    users: BTreeSet<Key>,
}

/// The resources, and the objects that they name.
#[derive(Default)]
pub struct Index {
    resources: HashMap<Key, IndexedResource>,
    objects: HashMap<(ObjectKind, Key), Watched>,
}

/// Whether `a` is older than `b`; versions are numbers that grow, and what is not a number is taken as new.
fn older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

impl Index {
    /// Adds or updates a resource; returns the resources to reconcile.
    pub fn upsert(&mut self, resource: LeanResource) -> Vec<Key> {
        let key = Key {
            namespace: resource.metadata.namespace.clone().unwrap_or_default(),
            name: resource.metadata.name.clone().unwrap_or_default(),
        };
        let mut entry = IndexedResource::new(resource);
        let mut woken = BTreeSet::from([key.clone()]);
        if let Some(before) = self.resources.get_mut(&key) {
            if before.uid == entry.uid {
                if older(&entry.version, &before.version) || entry.version == before.version {
                    return Vec::new();
                }
                entry.memory = std::mem::take(&mut before.memory);
                entry.answer = before.answer.take();
                if older(&entry.version, &before.status_version) {
                    entry.status = std::mem::take(&mut before.status);
                    entry.report = Report { suspended: entry.report.suspended, ..before.report };
                    entry.status_version = std::mem::take(&mut before.status_version);
                }
            }
            if before.refs != entry.refs || before.deleting != entry.deleting || before.uid != entry.uid {
                woken.extend(self.remove(&key));
            }
        }
        if !self.resources.contains_key(&key) {
            for (kind, name) in entry.refs.clone() {
                let id = (kind, Key { namespace: key.namespace.clone(), name });
                let watched = self.objects.entry(id).or_insert(Watched {
                    observed: Observed::Unknown,
                    awaited: false,
                    users: BTreeSet::new(),
                });
                watched.users.insert(key.clone());
            }
            if let Some(target) = &entry.target {
                woken.extend(self.claimants(&key.namespace, target));
            }
        }
        self.resources.insert(key, entry);
        woken.into_iter().collect()
    }

    /// Removes a resource; returns the resources to reconcile.
    pub fn remove(&mut self, key: &Key) -> Vec<Key> {
        let Some(entry) = self.resources.remove(key) else { return Vec::new() };
        for (kind, name) in entry.refs {
            let id = (kind, Key { namespace: key.namespace.clone(), name });
            if let Some(watched) = self.objects.get_mut(&id) {
                watched.users.remove(key);
                if watched.users.is_empty() {
                    self.objects.remove(&id);
                }
            }
        }
        entry.target.map(|target| self.claimants(&key.namespace, &target)).unwrap_or_default()
    }

    fn claimants(&self, namespace: &str, target: &str) -> Vec<Key> {
        let id = (ObjectKind::Secret, Key { namespace: namespace.to_owned(), name: target.to_owned() });
        let claims = |key: &&Key| self.resources.get(key).is_some_and(|e| e.target.as_deref() == Some(target));
        self.objects.get(&id).map(|w| w.users.iter().filter(claims).cloned().collect()).unwrap_or_default()
    }

    /// Returns the older resource that creates the same target; of two as old, the one with the smaller name.
    pub fn rival(&self, key: &Key) -> Option<String> {
        let entry = self.resources.get(key)?;
        let rank = |key: &Key| self.resources.get(key).map(|e| (e.created_at, key.name.clone()));
        let mine = rank(key)?;
        self.claimants(&key.namespace, entry.target.as_ref()?)
            .iter()
            .filter(|other| self.resources.get(other).is_some_and(|e| !e.deleting))
            .filter_map(rank)
            .filter(|other| *other < mine)
            .min()
            .map(|(_, name)| name)
    }

    /// Records a watch event of an object; returns the resources to reconcile. Objects that no resource names are not kept.
    pub fn observe(&mut self, kind: ObjectKind, key: Key, version: Version, gone: bool) -> Vec<Key> {
        let Some(watched) = self.objects.get_mut(&(kind, key)) else { return Vec::new() };
        watched.awaited = false;
        if let Observed::Cached(known) = &watched.observed
            && (older(&version.resource, &known.resource) || (gone && known.uid != version.uid))
        {
            return Vec::new();
        }
        let observed = if gone { Observed::Absent } else { Observed::Cached(version) };
        if watched.observed == observed {
            return Vec::new();
        }
        watched.observed = observed;
        watched.users.iter().cloned().collect()
    }

    /// Begins a list: it returns every object that exists and is named now. One that is named later may be newer.
    pub fn begin_list(&mut self, kind: ObjectKind, namespace: Option<&str>) {
        for ((of, key), watched) in &mut self.objects {
            if *of == kind && namespace.is_none_or(|namespace| namespace == key.namespace) {
                watched.awaited = true;
            }
        }
    }

    /// Completes a list: what it did not return is absent. Returns the resources to reconcile.
    pub fn complete_list(&mut self, kind: ObjectKind, namespace: Option<&str>) -> Vec<Key> {
        let mut woken = BTreeSet::new();
        for ((of, key), watched) in &mut self.objects {
            let listed = *of == kind && namespace.is_none_or(|namespace| namespace == key.namespace);
            if listed && std::mem::take(&mut watched.awaited) && watched.observed != Observed::Absent {
                watched.observed = Observed::Absent;
                woken.extend(watched.users.iter().cloned());
            }
        }
        woken.into_iter().collect()
    }

    /// Removes the resources that a complete list did not return; returns the resources to reconcile.
    pub fn retain(&mut self, namespace: Option<&str>, seen: &BTreeSet<Key>) -> Vec<Key> {
        let gone: Vec<Key> = self
            .resources
            .keys()
            .filter(|key| namespace.is_none_or(|namespace| namespace == key.namespace) && !seen.contains(*key))
            .cloned()
            .collect();
        gone.iter().flat_map(|key| self.remove(key)).collect()
    }

    /// Returns what the watches report of an object.
    pub fn observed<T>(&self, kind: ObjectKind, namespace: &str, name: &str) -> Observed<T> {
        let id = (kind, Key { namespace: namespace.to_owned(), name: name.to_owned() });
        self.objects.get(&id).map_or(Observed::Unknown, |watched| watched.observed.unloaded())
    }

    /// Records what the operator's own call returned, so that the watch event of it changes nothing. `before` is what was
    /// known when the call was made.
    pub fn record(
        &mut self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        before: &Observed<()>,
        now: Option<&Version>,
    ) {
        let id = (kind, Key { namespace: namespace.to_owned(), name: name.to_owned() });
        let Some(watched) = self.objects.get_mut(&id) else { return };
        watched.awaited = false;
        match now {
            None if watched.observed == *before => watched.observed = Observed::Absent,
            None => {}
            Some(version) => {
                let stale =
                    matches!(&watched.observed, Observed::Cached(known) if older(&version.resource, &known.resource));
                // A deletion that the watch reported meanwhile is newer.
                if !stale && (watched.observed != Observed::Absent || *before == Observed::Absent) {
                    watched.observed = Observed::Cached(version.clone());
                }
            }
        }
    }

    /// One resource.
    pub fn get(&self, key: &Key) -> Option<&IndexedResource> {
        self.resources.get(key)
    }

    /// One resource, if it is still the same.
    pub fn get_mut(&mut self, key: &Key, uid: &str) -> Option<&mut IndexedResource> {
        self.resources.get_mut(key).filter(|entry| entry.uid == uid)
    }

    /// Records a status that was written, so that the watch event of it changes nothing.
    pub fn status_written(&mut self, key: &Key, uid: &str, version: String, status: &ArcGisAppCredentialStatus) {
        let Some(entry) = self.get_mut(key, uid) else { return };
        entry.status_version = version;
        entry.status = serde_json::to_string(status).unwrap_or_default().into();
        entry.report = Report::new(status, entry.report.suspended);
    }

    /// Forgets the memory of all resources: another replica may have acted since.
    pub fn forget(&mut self) {
        for entry in self.resources.values_mut() {
            entry.memory = Memory::default();
            entry.answer = None;
        }
    }

    /// Every resource.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &IndexedResource)> {
        self.resources.iter()
    }
}
