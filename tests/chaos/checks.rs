//! What is checked of a run, from what the portal and the cluster have recorded. All times are in milliseconds.

use std::collections::BTreeMap;

use crate::plan::{Fault, Subject};

mod calls;
mod limits;
mod renewals;
mod requests;
#[cfg(test)]
mod tests;

pub use calls::check_calls;
pub use limits::{LIMITED_SECONDS, check_limits};
pub use renewals::check_renewals;
pub use requests::check_requests;

/// Milliseconds since 1970.
pub type Ms = i64;

/// When a fault was in force.
#[derive(Clone, Debug)]
pub struct Window {
    pub fault: Fault,
    pub from: Ms,
    pub to: Ms,
    /// The resources that it is about; empty: all.
    pub only: Vec<usize>,
}

impl Window {
    /// Returns when everything has recovered from it.
    pub fn settled(&self) -> Ms {
        self.to + Ms::try_from(self.fault.settle().as_millis()).unwrap_or(Ms::MAX)
    }
}

/// A change of one resource's objects by another writer.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    pub resource: usize,
    pub at: Ms,
    /// Whether it destroys the published token.
    pub destroys: bool,
}

/// How a token request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Issued,
    Limited,
    Failed,
}

/// A token request that the portal received.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub resource: usize,
    pub at: Ms,
    /// [`Ms::MAX`] while it is in flight.
    pub ended: Ms,
    pub outcome: Outcome,
}

/// A call of an operator that the API server received: its verb and path.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Ms,
    pub what: String,
}

/// A token in a target, as the API server recorded its write: in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    pub issued: Ms,
    pub at: Ms,
}

/// Everything recorded of a run.
#[derive(Debug, Default)]
pub struct Run {
    pub windows: Vec<Window>,
    pub touches: Vec<Touch>,
    /// In the order of arrival.
    pub sent: Vec<Sent>,
    pub calls: Vec<Call>,
    /// Those about single objects that were told in a header to wait.
    pub limited: Vec<Call>,
    /// When the portal or a gateway in front of it was asked about a token.
    pub verified: Vec<Ms>,
    /// The lists of all objects of a kind, while no watch could start.
    pub lists: Vec<Call>,
    pub published: BTreeMap<usize, Vec<Publication>>,
    /// When a replica reported that it leads, or that it cannot reach its Lease: on a busy machine that needs no fault.
    pub unsteady: Vec<Ms>,
    /// The granted lifetime by resource.
    pub lifetimes: Vec<Ms>,
    pub ended: Ms,
}

/// What the checks found, and how much they have judged.
#[derive(Debug, Default)]
pub struct Findings {
    pub violations: Vec<String>,
    /// Requests or tokens that were judged by the strict rule.
    pub strict: usize,
    /// Those to which a fault or a change gave more room.
    pub lenient: usize,
}

impl Run {
    fn windows_of(&self, subjects: &[Subject]) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter(|window| subjects.contains(&window.fault.subject()))
    }
}
