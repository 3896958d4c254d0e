//! What is known of all hosts, and what waits to be sent.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use tokio::sync::oneshot::{self, Receiver};

use crate::core::{Admit, Epoch, HostQueue, Turn};
use crate::index::Key;

#[derive(Default)]
pub(super) struct Hosts {
    pub by_name: HashMap<String, HostQueue<Key>>,
    /// The host that has a permit for a resource, until it takes it or its reconcile ends.
    pub woken_by: HashMap<Key, String>,
    /// Token requests that are prepared, or wait to be sent.
    pub prepared: usize,
    /// Token requests in flight.
    pub in_flight: usize,
    /// What waits to be sent, in the order in which it came.
    pub waiting: VecDeque<Waiting>,
    /// Hosts for which resources wait although the host has a permit. They are served by turns.
    pub short: VecDeque<String>,
}

/// How far a request is.
pub(super) enum Stage {
    Prepared,
    /// It waits until it may be sent: the epoch that it is then in flight in.
    Waiting(Receiver<Epoch>),
    InFlight,
    /// It is not sent.
    Refused,
}

/// A request that waits to be sent.
pub(super) struct Waiting {
    pub host: String,
    /// The epoch that it was prepared in; `None`: a verification.
    pub acquired: Option<Epoch>,
    /// Dropped: it is not to be sent.
    pub turn: oneshot::Sender<Epoch>,
}

/// Token requests in flight at once, of all hosts.
const MAX_IN_FLIGHT: usize = 64;

/// Token requests that are prepared at once, or wait to be sent, of all hosts.
pub(super) const MAX_PREPARED: usize = 64;

/// Hosts of which only an outage is remembered. Below a wildcard, users can name any number of them.
const MAX_HOSTS: usize = 1000;

impl Hosts {
    pub fn is_full(&self) -> bool {
        self.prepared >= MAX_PREPARED
    }

    pub fn epoch(&self, host: &str) -> Epoch {
        self.by_name.get(host).map(|queue| queue.limiter.epoch()).unwrap_or_default()
    }

    pub fn try_send(&mut self, host: &str, acquired: Epoch, now: Timestamp) -> Turn {
        let Some(queue) = self.by_name.get_mut(host) else { return Turn::Never };
        if self.in_flight >= MAX_IN_FLIGHT {
            return Turn::Later;
        }
        let turn = queue.limiter.try_send(acquired, now);
        if turn == Turn::Now {
            self.prepared = self.prepared.saturating_sub(1);
            self.in_flight += 1;
        }
        turn
    }

    pub fn try_verify(&mut self, host: &str, now: Timestamp) -> Admit {
        self.by_name.entry(host.to_owned()).or_default().limiter.try_verify(now)
    }

    pub fn wait(&mut self, host: &str, acquired: Option<Epoch>) -> Stage {
        let (turn, granted) = oneshot::channel();
        self.waiting.push_back(Waiting { host: host.to_owned(), acquired, turn });
        Stage::Waiting(granted)
    }

    pub fn verifications(&self, host: &str) -> usize {
        let waits =
            |waiting: &&Waiting| waiting.acquired.is_none() && waiting.host == host && !waiting.turn.is_closed();
        self.waiting.iter().filter(waits).count()
    }

    /// Forgets a host of which nothing has to be kept.
    pub fn forget_idle(&mut self, host: &str, now: Timestamp) {
        if self.by_name.get(host).is_some_and(|queue| queue.is_idle(now)) {
            self.by_name.remove(host);
        } else if self.by_name.len() > MAX_HOSTS {
            self.by_name.retain(|_, queue| !queue.is_unused());
        }
    }

    pub fn add_short(&mut self, host: &str) {
        if !self.short.iter().any(|short| short == host) {
            self.short.push_back(host.to_owned());
        }
    }
}
