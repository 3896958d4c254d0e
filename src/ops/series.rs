//! The series of each resource, written as text: as values of the library, those of ten thousand resources needed 11 MiB
//! more at each scrape.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::index::{Index, Report};

/// The prefix of all metrics.
pub(super) const PREFIX: &str = "arcgis_credential";

/// One gauge for each resource that has a value.
struct Gauge {
    name: &'static str,
    help: &'static str,
    value: fn(&Report) -> Option<i64>,
}

const GAUGES: [Gauge; 5] = [
    Gauge { name: "ready", help: "1 where the target holds a valid token", value: |r| Some(r.ready.into()) },
    Gauge {
        name: "verified",
        help: "1 while the portal confirms the token and its privileges, only with verification",
        value: |r| r.verified.map(Into::into),
    },
    Gauge { name: "suspended", help: "1 while spec.suspend is true", value: |r| r.suspended.then_some(1) },
    Gauge {
        name: "token_expiry_timestamp_seconds",
        help: "Expiration of the token",
        value: |r| r.expiration_time.map(Timestamp::as_second),
    },
    Gauge {
        name: "token_renewal_timestamp_seconds",
        help: "When the next token is requested",
        value: |r| r.renewal_time.filter(|_| !r.suspended).map(Timestamp::as_second),
    },
];
const PROBLEM: &str = "problem";
const OVERDUE: &str = "overdue_seconds";

/// What is read off the index.
pub struct Series {
    index: Arc<Mutex<Index>>,
    clock: fn() -> Timestamp,
}

impl Series {
    pub fn new(index: Arc<Mutex<Index>>, clock: fn() -> Timestamp) -> Self {
        Self { index, clock }
    }

    /// The names, without what all names begin with.
    pub fn names() -> impl Iterator<Item = &'static str> {
        GAUGES.iter().map(|gauge| gauge.name).chain([PROBLEM, OVERDUE])
    }

    /// Adds all of them to a text.
    pub fn write(&self, text: &mut String) {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let resources = || index.iter().filter(|(_, resource)| !resource.deleting);
        for Gauge { name, help, value } in &GAUGES {
            let samples = resources().filter_map(|(key, resource)| {
                Some(([("namespace", key.namespace.as_str()), ("name", &key.name)], value(&resource.report)?))
            });
            family(text, name, help, samples);
        }
        let problems = resources().filter_map(|(key, resource)| {
            let reason = resource.report.problem?.as_str();
            Some(([("namespace", key.namespace.as_str()), ("name", &key.name), ("reason", reason)], 1))
        });
        family(text, PROBLEM, "1 with the reason of the last failed attempt, while there is one", problems);
        let now = (self.clock)().as_second();
        let late = resources()
            .filter(|(_, resource)| !resource.report.suspended)
            .filter_map(|(_, resource)| Some(now - resource.report.renewal_time?.as_second()));
        let late = late.max().unwrap_or(0).max(0);
        family(text, OVERDUE, "How late the most overdue renewal is", [([], late)]);
    }
}

/// A family of gauges. Names of objects and reasons hold nothing that would have to be escaped.
fn family<'a, const LABELS: usize>(
    text: &mut String,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = ([(&'static str, &'a str); LABELS], i64)>,
) {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return;
    }
    // Writing to memory does not fail.
    let _ = writeln!(text, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} gauge");
    for (labels, value) in samples {
        let _ = write!(text, "{PREFIX}_{name}");
        let mut before = '{';
        for (label, value) in labels {
            let _ = write!(text, "{before}{label}=\"{value}\"");
            before = ',';
        }
        let _ = writeln!(text, "{} {value}", if LABELS > 0 { "}" } else { "" });
    }
}
