//! The series of each resource, written as text: as values of the library, those of ten thousand resources needed 11 MiB
//! more at each scrape.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::index::{Index, IndexedResource, NamedPortal};

/// Below a wildcard, users can name any number of hosts.
pub(super) const MAX_PORTALS: usize = 1000;

/// The prefix of all metrics.
pub(super) const PREFIX: &str = "arcgis_credential";

/// One gauge for each resource that has a value.
struct Gauge {
    name: &'static str,
    help: &'static str,
    value: fn(&IndexedResource) -> Option<i64>,
}

const GAUGES: [Gauge; 6] = [
    Gauge { name: "ready", help: "1 where the target holds a valid token", value: |r| Some(r.report.ready.into()) },
    Gauge {
        name: "verified",
        help: "1 while the portal confirms the token and its privileges, only with verification",
        value: |r| r.report.verified.map(Into::into),
    },
    Gauge { name: "suspended", help: "1 while spec.suspend is true", value: |r| r.report.suspended.then_some(1) },
    Gauge {
        name: "token_expiry_timestamp_seconds",
        help: "Expiration of the token",
        value: |r| Some(r.report.expiration_time?.as_second()),
    },
    Gauge {
        name: "token_renewal_timestamp_seconds",
        help: "When the next token is requested",
        value: |r| Some(r.report.renewal_time.filter(|_| !r.report.suspended)?.as_second()),
    },
    Gauge {
        name: "client_certificate_expiry_timestamp_seconds",
        help: "Expiration of the client certificate, as last read",
        value: |r| Some(r.client_certificate_expires?.as_second()),
    },
];
const PROBLEM: &str = "problem";
const OVERDUE: &str = "overdue_seconds";
const PORTAL_CERTIFICATE: &str = "portal_certificate_expiry_timestamp_seconds";
const PORTAL_PROBLEMS: &str = "portal_problems";

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
        GAUGES.iter().map(|gauge| gauge.name).chain([PROBLEM, OVERDUE, PORTAL_CERTIFICATE, PORTAL_PROBLEMS])
    }

    /// Adds all of them to a text.
    pub fn write(&self, text: &mut String) {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let resources = || index.iter().filter(|(_, resource)| !resource.deleting);
        for Gauge { name, help, value } in &GAUGES {
            let samples = resources().filter_map(|(key, resource)| {
                Some(([("namespace", key.namespace()), ("name", key.name())], value(resource)?))
            });
            family(text, name, help, samples);
        }
        let problems = resources().filter_map(|(key, resource)| {
            let reason = resource.report.problem?.as_str();
            Some(([("namespace", key.namespace()), ("name", key.name()), ("reason", reason)], 1))
        });
        family(text, PROBLEM, "1 with the reason of the last failed attempt, while there is one", problems);
        let mut troubled = BTreeMap::new();
        for (_, resource) in resources() {
            let problem = resource.report.problem.filter(|_| !resource.report.suspended);
            if let (Some(portal), Some(reason)) = (resource.portal(), problem) {
                *troubled.entry((&*portal.authority, reason.as_str())).or_insert(0) += 1;
            }
        }
        let troubled = troubled.into_iter().take(MAX_PORTALS);
        let troubled = troubled.map(|((portal, reason), count)| ([("portal", portal), ("reason", reason)], count));
        family(text, PORTAL_PROBLEMS, "Resources of a portal whose last attempt failed for a reason", troubled);
        let now = (self.clock)().as_second();
        let late = resources()
            .filter(|(_, resource)| !resource.report.suspended)
            .filter_map(|(_, resource)| Some(now - resource.report.renewal_time?.as_second()));
        let late = late.max().unwrap_or(0).max(0);
        family(text, OVERDUE, "How late the most overdue renewal is", [([], late)]);
        write_certificates(text, index.portals());
    }
}

/// Users can name any number of portals below a wildcard: the certificates that expire first are shown.
fn write_certificates(text: &mut String, portals: impl Iterator<Item = Arc<NamedPortal>>) {
    let presented = portals.filter_map(|portal| Some((portal.certificate_expires()?, portal)));
    let mut presented: Vec<_> = presented.collect();
    presented.sort_by(|(at, a), (other, b)| (at, &a.authority).cmp(&(other, &b.authority)));
    let samples = presented.iter().take(MAX_PORTALS).map(|(at, portal)| ([("portal", &*portal.authority)], *at));
    family(text, PORTAL_CERTIFICATE, "Expiration of the certificate that a portal presented last", samples);
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
