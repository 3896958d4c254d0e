//! The resources, and the objects that they name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::objects::{Objects, Seen};
use super::packed::Packed;
use super::portals::{NamedPortal, NamedPortals};
use super::resource::{IndexedResource, Key, ObjectKind, Report, hash};
use crate::api::{ArcGisAppCredentialStatus, Reason};
use crate::cluster::LeanResource;
use crate::core::{Activity, Memory, Observed, Reported, ResourceVersion, Version};

/// The resources, and the objects that they name.
#[derive(Default)]
pub struct Index {
    /// Boxed, because a map keeps room for many more than it holds.
    resources: HashMap<Key, Box<IndexedResource>>,
    objects: Objects,
    /// The API server stored a status otherwise than it was sent.
    altered: bool,
    portals: NamedPortals,
}

/// Takes over what is known of a resource into its next version; returns whether it is one, or another resource of that name.
fn take_over(before: &mut IndexedResource, entry: &mut IndexedResource, listed: bool) -> bool {
    if before.uid != entry.uid {
        return true;
    }
    // A list is believed, unless something newer was seen since it began.
    let believed = listed && std::mem::take(&mut before.awaited);
    before.awaited = false;
    let is_older = entry.version.is_older_than(&before.version);
    if entry.version == before.version || (is_older && !believed) {
        return false;
    }
    entry.memory = std::mem::take(&mut before.memory);
    entry.verified = before.verified.take();
    entry.panics = before.panics;
    entry.had_token |= before.had_token;
    let same = entry.presents_like(before);
    entry.client_certificate_expires = before.client_certificate_expires.filter(|_| same);
    let is_echo = entry.version == before.status_version;
    // What the API server drops from a status, or adds to it, counts as written.
    entry.written = if is_echo { Some(entry.observed) } else { before.written };
    let precedes_write = !is_older && entry.version.is_older_than(&before.status_version);
    if precedes_write {
        entry.observed = before.observed;
    }
    if entry.written == Some(entry.observed) {
        std::mem::swap(&mut entry.status, &mut before.status);
        entry.report = Report { suspended: entry.report.suspended, ..before.report };
        entry.status_version = std::mem::take(&mut before.status_version);
    }
    true
}

impl Index {
    /// Adds or updates a resource that a watch or a list returned; returns the resources to reconcile.
    pub fn upsert(&mut self, resource: LeanResource, listed: bool) -> Vec<Key> {
        let key = Key::of(&resource.metadata);
        // The one that all others share.
        let key = self.resources.get_key_value(&key).map_or(key, |(known, _)| known.clone());
        let before = self.resources.get_mut(&key);
        let mut entry = IndexedResource::new(resource, before.as_deref().map(Box::as_ref), &mut self.portals);
        let mut woken = BTreeSet::from([key.clone()]);
        if let Some(before) = before {
            let is_echo = entry.is_echo(before);
            self.altered |= is_echo && before.written != Some(entry.observed);
            // What was written is what was concluded: nothing is left to do for it.
            if is_echo && entry.is_specified_like(before) {
                woken.clear();
            }
            let moved = entry.claims_otherwise(before);
            if !take_over(before, &mut entry, listed) {
                return Vec::new();
            }
            if moved {
                woken.extend(self.remove(&key));
            }
        }
        if !self.resources.contains_key(&key) {
            self.objects.add_user(&key, entry.named.objects());
            if let Some(target) = &entry.named.target {
                woken.extend(self.claimants(target));
            }
        }
        self.resources.insert(key, Box::new(entry));
        woken.into_iter().collect()
    }

    /// Removes a resource; returns the resources to reconcile.
    pub fn remove(&mut self, key: &Key) -> Vec<Key> {
        let Some(entry) = self.resources.remove(key) else { return Vec::new() };
        self.objects.remove_user(key, entry.named.objects());
        entry.named.target.map(|target| self.claimants(&target)).unwrap_or_default()
    }

    fn claimants(&self, target: &Key) -> Vec<Key> {
        let claims = |key: &&Key| self.resources.get(key).is_some_and(|e| e.named.target.as_ref() == Some(target));
        self.objects.users(ObjectKind::Secret, target).iter().filter(claims).cloned().collect()
    }

    /// Returns the older resource that creates the same target; of two as old, the one with the smaller name.
    pub fn rival(&self, key: &Key) -> Option<String> {
        let entry = self.resources.get(key)?;
        let rank = |key: &Key| self.resources.get(key).map(|e| (e.created_at, key.name().to_owned()));
        let mine = rank(key)?;
        self.claimants(entry.named.target.as_ref()?)
            .iter()
            .filter(|other| self.resources.get(other).is_some_and(|e| !e.deleting))
            .filter_map(rank)
            .filter(|other| *other < mine)
            .min()
            .map(|(_, name)| name)
    }

    /// Records a watch event of an object; returns the resources to reconcile. Objects that no resource names are not kept.
    pub fn observe(&mut self, kind: ObjectKind, key: &Key, version: Version, seen: Seen) -> Vec<Key> {
        self.objects.observe(kind, key, version, seen)
    }

    /// Begins a list of resources: it returns every resource that exists.
    pub fn begin_resource_list(&mut self, namespace: Option<&str>) {
        for (key, resource) in &mut self.resources {
            resource.awaited |= key.is_in(namespace);
        }
    }

    /// Whether a resource in the namespace, or in any, names a ConfigMap.
    pub fn names_config_maps(&self, namespace: Option<&str>) -> bool {
        self.objects.names_config_maps(namespace)
    }

    /// Whether something is known of every object that a resource names.
    pub fn knows_objects_of(&self, key: &Key) -> bool {
        let known = |(kind, name)| self.objects.observed::<()>(kind, &name) != Observed::Unknown;
        self.resources.get(key).is_some_and(|resource| resource.named.objects().all(known))
    }

    /// Ends the waits of resources whose last request failed for a reason; returns the resources to reconcile.
    pub fn retry_at(&mut self, now: Timestamp, applies: impl Fn(&IndexedResource, Reason) -> bool) -> Vec<Key> {
        let mut keys = Vec::new();
        for (key, resource) in &mut self.resources {
            let mut memory = std::mem::take(&mut resource.memory);
            if memory.end_request_wait(now, |wait| applies(resource, wait.reason)) {
                keys.push(key.clone());
            }
            resource.memory = memory;
        }
        keys
    }

    /// Ends the wait of the resource that tries its host next, of those without a valid token whose last request failed in
    /// an outage.
    pub fn next_to_probe(&mut self, now: Timestamp, applies: impl Fn(&IndexedResource) -> bool) -> Option<Key> {
        let waits = |resource: &IndexedResource| {
            let expired = resource.report.expiration_time.is_none_or(|at| Timestamp::from(at) <= now);
            let wait = resource.memory.waits.get(Activity::Request)?;
            (expired && !resource.report.suspended && wait.reason.is_outage()).then_some(wait.next_attempt)
        };
        let waiting = self.resources.iter().filter_map(|(key, resource)| Some((waits(resource)?, key, resource)));
        let (_, key, _) =
            waiting.filter(|(_, _, resource)| applies(resource)).min_by_key(|(at, key, _)| (*at, *key))?;
        let key = key.clone();
        let resource = self.resources.get_mut(&key)?;
        resource.memory.end_request_wait(now, |_| true);
        Some(key)
    }

    /// Moves what is remembered of times after the clock was set by `step`.
    pub fn shift(&mut self, step: SignedDuration) {
        self.resources.values_mut().for_each(|resource| resource.memory.shift(step));
    }

    /// Begins a list: it returns every object that exists and is named now. One that is named later may be newer.
    pub fn begin_list(&mut self, kind: ObjectKind, namespace: Option<&str>) {
        self.objects.begin_list(kind, namespace);
    }

    /// Completes a list: what it did not return is absent. Returns the resources to reconcile.
    pub fn complete_list(&mut self, kind: ObjectKind, namespace: Option<&str>) -> Vec<Key> {
        self.objects.complete_list(kind, namespace)
    }

    /// Removes the resources that a complete list did not return; returns the resources to reconcile.
    pub fn retain(&mut self, namespace: Option<&str>, seen: &BTreeSet<Key>) -> Vec<Key> {
        let gone: Vec<Key> =
            self.resources.keys().filter(|key| key.is_in(namespace) && !seen.contains(*key)).cloned().collect();
        gone.iter().flat_map(|key| self.remove(key)).collect()
    }

    /// Returns what the watches report of an object.
    pub fn observed<T>(&self, kind: ObjectKind, namespace: &str, name: &str) -> Observed<T> {
        self.objects.observed(kind, &Key::new(namespace, name))
    }

    /// Records what the operator's own call returned, so that the watch event of it changes nothing. `before` is what was
    /// known when the call was made. Returns the resources to reconcile, which that event does not wake any more.
    pub fn record(
        &mut self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        before: &Observed<()>,
        now: Option<&Version>,
    ) -> Vec<Key> {
        self.objects.record(kind, &Key::new(namespace, name), before, now)
    }

    /// One resource.
    pub fn get(&self, key: &Key) -> Option<&IndexedResource> {
        self.resources.get(key).map(Box::as_ref)
    }

    /// One resource, if it is still the same.
    pub fn get_mut(&mut self, key: &Key, uid: &str) -> Option<&mut IndexedResource> {
        self.resources.get_mut(key).map(Box::as_mut).filter(|entry| entry.uid == *uid)
    }

    /// Records a status that was written, so that the watch event of it changes nothing. Returns when the resource was
    /// created, if this is its first token.
    pub fn status_written(
        &mut self,
        key: &Key,
        uid: &str,
        version: impl Into<ResourceVersion>,
        status: &ArcGisAppCredentialStatus,
        reported: Reported,
    ) -> Option<Timestamp> {
        let entry = self.get_mut(key, uid)?;
        entry.awaited = false;
        entry.memory.report_succeeded(reported);
        entry.observed = hash(status);
        entry.written = Some(entry.observed);
        let first_token = status.token.is_some() && !std::mem::replace(&mut entry.had_token, status.token.is_some());
        entry.status_version = version.into();
        entry.status = Packed::new(&serde_json::to_string(status).unwrap_or_default());
        entry.report = Report::new(status, entry.report.suspended);
        entry.created_at.filter(|_| first_token).map(Into::into)
    }

    /// Whether another writer replaced the status that was written last.
    pub fn is_contested(&self, key: &Key, uid: &str) -> bool {
        self.resources.get(key).is_some_and(|entry| entry.uid == *uid && entry.is_contested())
    }

    /// Whether the API server stored a status otherwise than it was sent since this was last asked: the CRD is of another
    /// version.
    pub fn take_altered(&mut self) -> bool {
        std::mem::take(&mut self.altered)
    }

    /// Forgets the memory of all resources: another replica may have acted since.
    pub fn forget(&mut self) {
        for entry in self.resources.values_mut() {
            entry.memory = Memory::default();
            entry.verified = None;
            entry.written = None;
            entry.client_certificate_expires = None;
        }
        self.portals.iter().for_each(|portal| portal.forget());
    }

    /// Records when the certificate expires that the portal of a resource presents.
    pub fn portal_presented(&self, key: &Key, authority: &str, expires: Timestamp) {
        let portal = self.resources.get(key).and_then(|resource| resource.portal());
        if let Some(portal) = portal.filter(|portal| *portal.authority == *authority) {
            portal.presented(expires);
        }
    }

    /// The portals that resources name.
    pub fn portals(&self) -> impl Iterator<Item = Arc<NamedPortal>> {
        self.portals.iter()
    }

    /// Returns the number of resources.
    pub fn count(&self) -> usize {
        self.resources.len()
    }

    /// Every resource.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &IndexedResource)> {
        self.resources.iter().map(|(key, resource)| (key, resource.as_ref()))
    }
}
