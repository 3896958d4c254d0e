//! What is known of the cluster: the resources, and the versions of the Secrets and ConfigMaps that they name.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{ArcGisAppCredentialStatus, Reason, Verification};
use crate::cluster::LeanResource;
use crate::core::{Memory, Observed, Version};

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

/// Kinds of objects that resources name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    Secret,
    ConfigMap,
}

/// What metrics and the work queue use of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub ready: bool,
    pub expiration_time: Option<Timestamp>,
    pub renewal_time: Option<Timestamp>,
    pub problem: Option<Reason>,
    pub suspended: bool,
}

impl Report {
    fn new(status: &ArcGisAppCredentialStatus, suspended: bool) -> Self {
        Self {
            suspended,
            ready: status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            expiration_time: status.token.as_ref().map(|token| token.expiration_time),
            renewal_time: status.token.as_ref().map(|token| token.renewal_time),
            problem: status.failure.as_ref().map(|failure| failure.reason),
        }
    }
}

/// One resource.
#[derive(Clone)]
pub struct IndexedResource {
    pub uid: String,
    version: String,
    /// The version that the operator's last status write made.
    status_version: String,
    pub generation: i64,
    pub created_at: Option<Timestamp>,
    pub deleting: bool,
    pub requested_at: Option<String>,
    pub spec: Box<str>,
    pub status: Box<str>,
    pub memory: Memory,
    pub report: Report,
    /// The portal's answer which app the token belongs to, until it is reported.
    pub answer: Option<Verification>,
    target: Option<String>,
    refs: Vec<(ObjectKind, String)>,
}

const REQUESTED_AT: &str = "credentials.arcgis.dev/requested-at";
const REQUESTED_AT_CHARS: usize = 64;

impl IndexedResource {
    fn new(resource: LeanResource) -> Self {
        let meta = resource.metadata;
        // Read loosely: the names in a resource count even when it cannot be decoded.
        let spec: Value = serde_json::from_str(&resource.spec).unwrap_or_default();
        let name = |path: &str| spec.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let target = name("/target/name");
        let mut refs: Vec<_> =
            target.iter().cloned().chain(name("/credentialsRef/name")).map(|name| (ObjectKind::Secret, name)).collect();
        if let Some(ca) = name("/portal/caBundleRef/name") {
            let secret = name("/portal/caBundleRef/kind").is_some_and(|kind| kind == "Secret");
            refs.push((if secret { ObjectKind::Secret } else { ObjectKind::ConfigMap }, ca));
        }
        let status = ArcGisAppCredentialStatus::read(&resource.status);
        Self {
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.unwrap_or_default(),
            status_version: String::new(),
            generation: meta.generation.unwrap_or_default(),
            created_at: meta.creation_timestamp.map(|time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            requested_at: meta
                .annotations
                .and_then(|mut all| all.remove(REQUESTED_AT))
                .map(|text| text.chars().take(REQUESTED_AT_CHARS).collect()),
            report: Report::new(&status, spec["suspend"] == true),
            spec: resource.spec,
            status: resource.status,
            memory: Memory::default(),
            answer: None,
            target,
            refs,
        }
    }
}

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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(name: &str, created: &str, deleting: bool) -> LeanResource {
        let mut resource = json!({
            "metadata": {"namespace": "maps", "name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": created},
            "spec": {"credentialsRef": {"name": "oauth"}, "target": {"name": "shared"}},
        });
        if deleting {
            resource["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        }
        serde_json::from_value(resource).unwrap()
    }

    #[test]
    fn the_older_creates_the_target_and_a_tie_goes_to_the_smaller_name() {
        let key = |name: &str| Key { namespace: "maps".to_owned(), name: name.to_owned() };
        let mut index = Index::default();
        for (name, created) in
            [("a", "2026-01-01T00:00:01Z"), ("c", "2026-01-01T00:00:00Z"), ("b", "2026-01-01T00:00:00Z")]
        {
            index.upsert(resource(name, created, false));
        }
        let rivals = |index: &Index| ["a", "b", "c"].map(|name| index.rival(&key(name)));
        let of = |name: &str| Some(name.to_owned());
        assert_eq!(rivals(&index), [of("b"), None, of("b")]);
        let mut gone = resource("b", "2026-01-01T00:00:00Z", true);
        gone.metadata.resource_version = Some("2".to_owned());
        index.upsert(gone);
        assert_eq!(rivals(&index)[0], of("c"), "one that is being deleted creates nothing");
        index.remove(&key("c"));
        assert_eq!(rivals(&index)[0], None);
    }
}
