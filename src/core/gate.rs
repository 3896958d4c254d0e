//! What one portal host may be asked for at a time, when it has asked for a pause, and who waits for it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use jiff::Timestamp;

use super::Priority;
use super::schedule::after;
use crate::api::{ArcGisAppCredentialStatus, Reason};

/// Requests under way at once to one host.
const LIMIT: usize = 8;
/// Resources that did not get the 429 themselves wait no longer than this.
const HOLD_SECONDS: u32 = 300;
/// Answers that come so close to each other are to requests that were under way together.
const BURST_SECONDS: i64 = 30;

/// May a request be sent to a host now?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Go,
    /// As many as allowed are under way: wait until one has ended.
    Busy,
    /// The host asked for a pause.
    Held(Timestamp),
}

/// How a request ended, as far as the host is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Issued,
    /// 429; seconds that the host asks to wait.
    Limited(u32),
    Failed,
}

/// The state of one host.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    under_way: usize,
    hold: Option<Hold>,
}

#[derive(Clone, Debug)]
struct Hold {
    until: Timestamp,
    streak: u32,
    probing: bool,
}

impl Gate {
    /// What a request would meet.
    #[must_use]
    pub fn look(&self, now: Timestamp) -> Entry {
        match &self.hold {
            Some(hold) if now < hold.until => Entry::Held(hold.until),
            Some(hold) if hold.probing => Entry::Busy,
            _ if self.under_way >= LIMIT => Entry::Busy,
            _ => Entry::Go,
        }
    }

    /// Asks to send a request; after `Go`, [`Gate::leave`] must follow. After a pause one goes first.
    pub fn enter(&mut self, now: Timestamp) -> Entry {
        let entry = self.look(now);
        if entry == Entry::Go {
            self.under_way += 1;
            if let Some(hold) = &mut self.hold {
                hold.probing = true;
            }
        }
        entry
    }

    /// A request has ended; says how many that wait may try now.
    pub fn leave(&mut self, outcome: Outcome, now: Timestamp) -> usize {
        self.under_way = self.under_way.saturating_sub(1);
        match outcome {
            Outcome::Issued => self.hold = None,
            Outcome::Limited(seconds) => self.hold_for(seconds, now),
            Outcome::Failed => {
                if let Some(hold) = &mut self.hold {
                    hold.probing = false;
                }
            }
        }
        match &self.hold {
            Some(_) => 1,
            None => LIMIT - self.under_way.min(LIMIT),
        }
    }

    /// Notes a 429: the pause grows while every first one after a pause gets another.
    pub fn hold_for(&mut self, seconds: u32, now: Timestamp) {
        // Requests that were under way together count as one.
        let together = self.hold.as_ref().is_some_and(|hold| now < hold.until);
        let streak = self.hold.as_ref().map_or(0, |hold| hold.streak.saturating_add(u32::from(!together)));
        let seconds = seconds.max(grown(streak)).min(HOLD_SECONDS);
        let until = after(now, i64::from(seconds));
        let until = self.hold.as_ref().map_or(until, |hold| if together { hold.until.max(until) } else { until });
        self.hold = Some(Hold { until, streak, probing: false });
    }

    /// What a host asked for before a restart, by all that its resources tell: the pause goes on as it would have, and
    /// when it is over one goes first all the same.
    pub fn recall(&mut self, told: &[Told], now: Timestamp) {
        let mut told = told.to_vec();
        told.sort_by_key(|told| std::cmp::Reverse(told.at));
        let (Some(last), Some(until)) = (told.first().map(|told| told.at), told.iter().map(|told| told.until).max())
        else {
            return;
        };
        // One after the other, back to where more time lies between than a pause takes.
        let (mut times, mut begun) = (0_u32, last);
        for burst in told.chunk_by(|a, b| a.at.duration_since(b.at).as_secs() <= BURST_SECONDS) {
            if begun.duration_since(burst[0].at).as_secs() > i64::from(HOLD_SECONDS) + BURST_SECONDS {
                break;
            }
            times = burst.iter().map(|told| told.count).max().unwrap_or(0).saturating_add(times);
            begun = burst.last().map_or(begun, |told| told.at);
        }
        let streak = times.saturating_sub(1);
        let until = until.max(after(last, grown(streak).into())).min(after(now, HOLD_SECONDS.into()));
        if self.hold.as_ref().is_none_or(|hold| hold.until < until) {
            self.hold = Some(Hold { until, streak, probing: false });
        }
    }
}

/// How long a pause is at least after so many in a row.
fn grown(streak: u32) -> u32 {
    (60 << streak.min(4)).min(HOLD_SECONDS)
}

/// A 429 that a status tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it came.
    pub at: Timestamp,
    /// Until when others than that resource wait.
    pub until: Timestamp,
    /// How many in a row that resource has had.
    pub count: u32,
}

impl Told {
    /// What a status tells of a host.
    #[must_use]
    pub fn by(status: &ArcGisAppCredentialStatus) -> Option<Self> {
        let failure = status.failure.as_ref().filter(|failure| failure.reason == Reason::RateLimited)?;
        let at = failure.last_attempt_at?;
        let until = failure.next_attempt_at?.min(after(at, HOLD_SECONDS.into()));
        Some(Self { at, until, count: failure.count.unwrap_or(1) })
    }
}

/// One host: its gate, and who waits there.
pub struct Host<K> {
    pub gate: Gate,
    waiting: BTreeSet<(Priority, K)>,
    places: HashMap<K, Priority>,
    /// They may go on and have not yet.
    told: HashSet<K>,
}

impl<K> Default for Host<K> {
    fn default() -> Self {
        Self { gate: Gate::default(), waiting: BTreeSet::new(), places: HashMap::new(), told: HashSet::new() }
    }
}

impl<K: Clone + Hash + Ord> Host<K> {
    /// Asks to send a request, as [`Gate::enter`] does; whoever goes waits no longer.
    pub fn enter(&mut self, key: &K, now: Timestamp) -> Entry {
        let entry = self.gate.enter(now);
        if entry == Entry::Go {
            self.told.remove(key);
            if let Some((key, priority)) = self.places.remove_entry(key) {
                self.waiting.remove(&(priority, key));
            }
        }
        entry
    }

    /// Waits for a place at a busy host; where one came free meanwhile, whoever asks may go on.
    pub fn queue(&mut self, priority: Priority, key: K, now: Timestamp) -> Option<K> {
        if self.gate.look(now) == Entry::Go {
            return Some(key);
        }
        self.told.remove(&key);
        if let Some(before) = self.places.insert(key.clone(), priority) {
            self.waiting.remove(&(before, key.clone()));
        }
        self.waiting.insert((priority, key));
        None
    }

    /// Whether there is nothing to remember of it.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.gate.under_way == 0 && self.gate.hold.is_none() && self.waiting.is_empty()
    }

    /// A request has ended; returns who may go on.
    pub fn leave(&mut self, outcome: Outcome, now: Timestamp) -> Vec<K> {
        let free = self.gate.leave(outcome, now);
        std::iter::from_fn(|| self.next()).take(free).collect()
    }

    /// A look at a resource has ended without a request. If it was told to go on and the place is free still, returns who
    /// may go on instead: those that wait would else wait for the next request to end, and there may be none.
    pub fn decline(&mut self, key: &K, now: Timestamp) -> Option<K> {
        if self.told.remove(key) && self.gate.look(now) == Entry::Go { self.next() } else { None }
    }

    /// The first of those that wait.
    fn next(&mut self) -> Option<K> {
        let (_, key) = self.waiting.pop_first()?;
        self.places.remove(&key);
        self.told.insert(key.clone());
        Some(key)
    }
}
