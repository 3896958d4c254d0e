//! Metrics in the Prometheus text format. The series of a resource are made when scraped, so they disappear with it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::series::{PREFIX, Series};
use crate::api::Reason;
use crate::index::Index;

/// A request may take 15 s.
const REQUEST_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
const RECONCILE_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 20.0];
const READY_BUCKETS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];
/// A failed watch is retried within 60 s, the retry fails within 75 s, and there is no event when it works again.
const WATCH_FAILS: Duration = Duration::from_secs(150);

/// Below a wildcard, users can name any number of hosts.
const MAX_PORTALS: usize = 1000;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    triggers: IntCounterVec,
    verifications: IntCounterVec,
    reconciles: IntCounterVec,
    reconcile_duration: Histogram,
    time_to_ready: Histogram,
    status_write_failures: IntCounter,
    leader: IntGauge,
    watches: IntGaugeVec,
    watch_failed: Mutex<HashMap<String, Option<Instant>>>,
    portals: Mutex<HashSet<String>>,
    series: Series,
    described: Vec<String>,
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    IntCounterVec::new(opts(name, help), labels)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace(PREFIX).buckets(buckets.to_vec())
}

impl Metrics {
    /// Metrics over the resources in an index.
    pub fn new(index: Arc<Mutex<Index>>, clock: fn() -> Timestamp) -> Result<Self, Error> {
        let mut metrics = Self {
            registry: Registry::new(),
            requests: counters(
                "token_requests_total",
                "Token requests by portal host and outcome: Issued, or the reason",
                &["portal", "outcome"],
            )?,
            triggers: counters("token_triggers_total", "Token requests by what caused them", &["trigger"])?,
            verifications: counters(
                "verifications_total",
                "Checks of published tokens by portal host and outcome",
                &["portal", "outcome"],
            )?,
            request_duration: HistogramVec::new(
                histogram("token_request_duration_seconds", "Time that a token request took", &REQUEST_BUCKETS),
                &["portal"],
            )?,
            reconciles: counters("reconciles_total", "Reconciles by outcome: Ok, or the reason shown", &["outcome"])?,
            reconcile_duration: Histogram::with_opts(histogram(
                "reconcile_duration_seconds",
                "Time that a reconcile took",
                &RECONCILE_BUCKETS,
            ))?,
            time_to_ready: Histogram::with_opts(histogram(
                "time_to_ready_seconds",
                "Time from the creation of a resource to its first token",
                &READY_BUCKETS,
            ))?,
            status_write_failures: IntCounter::with_opts(opts(
                "status_write_failures_total",
                "Writes of a status that failed",
            ))?,
            leader: IntGauge::with_opts(opts("leader", "1 while this replica leads, 0 while it stands by"))?,
            watches: IntGaugeVec::new(opts("watch_failing", "1 while a watch on the cluster fails"), &["watch"])?,
            watch_failed: Mutex::default(),
            portals: Mutex::default(),
            series: Series::new(index, clock),
            described: Series::names().map(|name| format!("{PREFIX}_{name}")).collect(),
        };
        let build = IntGaugeVec::new(opts("build_info", "Build of the operator"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let collectors: [Box<dyn Collector>; 11] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.triggers.clone()),
            Box::new(metrics.request_duration.clone()),
            Box::new(metrics.verifications.clone()),
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.reconcile_duration.clone()),
            Box::new(metrics.time_to_ready.clone()),
            Box::new(metrics.status_write_failures.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.watches.clone()),
            Box::new(build),
        ];
        for collector in collectors {
            metrics.described.extend(collector.desc().iter().map(|desc| desc.fq_name.clone()));
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Records whether this replica acts.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Records a token request; without a reason a token was issued. Portals beyond the first thousand are counted together.
    pub fn requested(&self, portal: &str, reason: Option<Reason>, trigger: &str, took: Duration) {
        let portal = self.portal_label(portal);
        let portal = portal.as_str();
        self.requests.with_label_values(&[portal, reason.map_or("Issued", Reason::as_str)]).inc();
        self.triggers.with_label_values(&[trigger]).inc();
        self.request_duration.with_label_values(&[portal]).observe(took.as_secs_f64());
    }

    /// Records a check of a published token.
    pub fn verification(&self, portal: &str, outcome: &str) {
        self.verifications.with_label_values(&[self.portal_label(portal).as_str(), outcome]).inc();
    }

    /// Returns the label of a portal: its host, or `other` beyond the first thousand.
    fn portal_label(&self, portal: &str) -> String {
        let mut portals = self.portals.lock().unwrap_or_else(PoisonError::into_inner);
        if portals.len() < MAX_PORTALS {
            portals.insert(portal.to_owned());
        }
        if portals.contains(portal) { portal.to_owned() } else { "other".to_owned() }
    }

    /// Records that the write of a status failed.
    pub fn status_not_written(&self) {
        self.status_write_failures.inc();
    }

    /// Records the conclusion of a reconcile.
    pub fn concluded(&self, problem: Option<Reason>) {
        self.reconciles.with_label_values(&[problem.map_or("Ok", Reason::as_str)]).inc();
    }

    /// Records the duration of a reconcile.
    pub fn reconciled(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Records the first token of a resource, so long after its creation.
    pub fn first_token(&self, after: SignedDuration) {
        self.time_to_ready.observe(after.as_secs_f64().max(0.0));
    }

    /// Records that a watch delivered an event, or failed.
    pub fn watch(&self, watch: &str, failed: bool) {
        let mut watches = self.watch_failed.lock().unwrap_or_else(PoisonError::into_inner);
        watches.insert(watch.to_owned(), failed.then(Instant::now));
    }

    /// The names of all metrics.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.described.clone()
    }

    /// The text to be scraped.
    #[must_use]
    pub fn render(&self) -> Option<String> {
        for (watch, failed) in &*self.watch_failed.lock().unwrap_or_else(PoisonError::into_inner) {
            let failing = failed.is_some_and(|at| at.elapsed() < WATCH_FAILS);
            self.watches.with_label_values(&[watch]).set(failing.into());
        }
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather()).ok()?;
        self.series.write(&mut text);
        Some(text)
    }
}
