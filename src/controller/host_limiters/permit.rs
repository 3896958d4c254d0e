//! The permit of one request, from its preparation to its end.

use tokio::sync::oneshot::Receiver;

use super::HostLimiters;
use crate::core::{Epoch, Outcome};
use crate::index::Key;

/// The permit of one request, released when it is dropped.
pub struct RequestPermit<'a> {
    limiters: &'a HostLimiters,
    host: String,
    /// `None`: for a verification.
    key: Option<Key>,
    acquired: Epoch,
    stage: Stage,
    outcome: Outcome,
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

impl<'a> RequestPermit<'a> {
    pub(super) fn new(limiters: &'a HostLimiters, host: &str, key: Option<Key>, acquired: Epoch, stage: Stage) -> Self {
        Self { limiters, host: host.to_owned(), key, acquired, stage, outcome: Outcome::Failed }
    }

    /// Whether the request may be sent without a wait.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.stage, Stage::InFlight)
    }

    /// Waits for the turn of the request; returns whether it comes. It does not after a 429 to another one.
    pub async fn turn(&mut self) -> bool {
        if let Stage::Prepared = self.stage {
            self.stage = self.limiters.try_send(&self.host, self.acquired).unwrap_or(Stage::Prepared);
        }
        if let Stage::Waiting(granted) = &mut self.stage {
            let granted = granted.await;
            self.settle(granted.ok());
        }
        self.is_in_flight()
    }

    fn settle(&mut self, granted: Option<Epoch>) {
        self.acquired = granted.unwrap_or(self.acquired);
        self.stage = match (granted, &self.key) {
            (Some(_), _) => Stage::InFlight,
            (None, Some(_)) => Stage::Prepared,
            (None, None) => Stage::Refused,
        };
    }

    /// Releases the permit with the outcome of its request.
    pub fn release(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        let mut hosts = self.limiters.lock();
        if let Stage::Waiting(granted) = &mut self.stage {
            granted.close();
            let granted = granted.try_recv().ok();
            self.settle(granted);
        }
        let now = (self.limiters.clock)();
        let is_token_request = usize::from(self.key.is_some());
        let Some(queue) = hosts.by_name.get_mut(&self.host) else { return };
        match self.stage {
            Stage::InFlight => {
                if queue.release(self.key.as_ref(), self.acquired, self.outcome, now) {
                    let _ = self.limiters.recovered.send(self.host.clone());
                }
                hosts.in_flight = hosts.in_flight.saturating_sub(is_token_request);
            }
            Stage::Prepared => {
                queue.limiter.forgo(self.acquired);
                hosts.prepared = hosts.prepared.saturating_sub(1);
            }
            Stage::Waiting(_) | Stage::Refused => return,
        }
        self.limiters.send_waiting(&mut hosts);
        self.limiters.wake_waiting(&mut hosts, &self.host);
        hosts.forget_idle(&self.host, now);
    }
}
