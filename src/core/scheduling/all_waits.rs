//! All waits of a resource: one for each activity that failed.

use jiff::{SignedDuration, Timestamp};

use super::waits::{Activity, MadeWith, Wait};
use crate::core::rare::Rare;

/// Returns the latest end. What an attempt would be made with is computed only where something waits.
fn latest<'a>(
    waits: impl Iterator<Item = &'a Wait>,
    made_with: impl FnOnce() -> MadeWith,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut waits = waits.peekable();
    waits.peek()?;
    let made_with = made_with();
    waits.filter_map(|wait| wait.until(&made_with, now)).max()
}

/// The waits of a resource: at most one for each activity, in their order. Most resources have none.
#[derive(Clone, Debug, Default)]
pub struct Waits(Rare<Vec<Wait>>);

impl Waits {
    #[must_use]
    pub fn get(&self, activity: Activity) -> Option<&Wait> {
        self.0.iter().find(|wait| wait.activity == activity)
    }

    pub fn get_mut(&mut self, activity: Activity) -> Option<&mut Wait> {
        self.iter_mut().find(|wait| wait.activity == activity)
    }

    pub fn insert(&mut self, wait: Wait) {
        self.remove(wait.activity);
        let at = self.0.partition_point(|other| (other.activity as usize) < wait.activity as usize);
        self.0.reserve_exact(1);
        self.0.insert(at, wait);
    }

    /// Ends the wait of an activity that succeeded, or that nothing is left to do for.
    pub fn remove(&mut self, activity: Activity) {
        self.0.iter_mut().for_each(|waits| waits.retain(|wait| wait.activity != activity));
        if self.0.is_empty() {
            *self = Self::default();
        }
    }

    /// The waits that a status reports: a status that cannot be written cannot say so.
    pub fn failures(&self) -> impl Iterator<Item = &Wait> {
        self.0.iter().filter(|wait| wait.activity != Activity::Report)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Wait> {
        self.0.iter_mut().flatten()
    }

    /// Returns until when nothing is done about the resource.
    pub(crate) fn all_suspended_until(
        &self,
        made_with: impl FnOnce() -> MadeWith,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let suspending = self.failures().filter(|wait| wait.suspends_all());
        latest(suspending, made_with, now)
    }

    /// Returns the end of the waits of these activities.
    pub(crate) fn until(
        &self,
        activities: &[Activity],
        made_with: impl FnOnce() -> MadeWith,
        now: Timestamp,
    ) -> Option<Timestamp> {
        latest(activities.iter().filter_map(|activity| self.get(*activity)), made_with, now)
    }

    /// Moves the times after the clock was set by `step`.
    pub(crate) fn shift(&mut self, step: SignedDuration) {
        self.iter_mut().for_each(|wait| wait.shift(step));
    }
}
