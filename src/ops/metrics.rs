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

use super::series::{MAX_PORTALS, PREFIX, Series};
use crate::api::Reason;
use crate::index::Index;

/// A request may take 15 s.
const REQUEST_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
const RECONCILE_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 20.0];
const READY_BUCKETS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];
/// A failed watch is retried within 60 s, the retry fails within 75 s, and there is no event when it works again.
const WATCH_FAILS: Duration = Duration::from_secs(150);

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    triggers: IntCounterVec,
    verifications: IntCounterVec,
    reconciles: IntCounterVec,
    durations: Durations,
    status_write_failures: IntCounter,
    events_dropped: IntCounter,
    gauges: Gauges,
    watch_failed: Mutex<HashMap<String, Option<Instant>>>,
    portals: Mutex<HashSet<String>>,
    series: Series,
    described: Vec<String>,
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

struct Durations {
    request: HistogramVec,
    reconcile: Histogram,
    to_ready: Histogram,
}

impl Durations {
    fn new(all: &mut Registrar) -> Result<Self, Error> {
        let request = "Time that a token request took";
        let reconcile = "Time that a reconcile took";
        let to_ready = "Time from the creation of a resource to its first token";
        Ok(Self {
            request: all.histograms("token_request_duration_seconds", request, &REQUEST_BUCKETS, "portal")?,
            reconcile: all.histogram("reconcile_duration_seconds", reconcile, &RECONCILE_BUCKETS)?,
            to_ready: all.histogram("time_to_ready_seconds", to_ready, &READY_BUCKETS)?,
        })
    }
}

struct Gauges {
    leader: IntGauge,
    watches: IntGaugeVec,
}

impl Gauges {
    fn new(all: &mut Registrar) -> Result<Self, Error> {
        Ok(Self {
            leader: all.gauge("leader", "1 while this replica leads, 0 while it stands by")?,
            watches: all.gauges("watch_failing", "1 while a watch on the cluster fails", "watch")?,
        })
    }
}

/// Registers metrics, and keeps their names.
struct Registrar {
    registry: Registry,
    described: Vec<String>,
}

impl Registrar {
    fn new() -> Result<Self, Error> {
        let described = Series::names().map(|name| format!("{PREFIX}_{name}")).collect();
        let mut all = Self { registry: Registry::new(), described };
        let build = all.gauges("build_info", "Build of the operator", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(all)
    }

    fn add<C: Collector + Clone + 'static>(&mut self, collector: C) -> Result<C, Error> {
        self.described.extend(collector.desc().iter().map(|desc| desc.fq_name.clone()));
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add(IntCounter::with_opts(opts(name, help))?)
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::with_opts(opts(name, help))?)
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, Error> {
        self.add(IntGaugeVec::new(opts(name, help), &[label])?)
    }

    fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.add(Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec()))?)
    }

    fn histograms(&mut self, name: &str, help: &str, buckets: &[f64], label: &str) -> Result<HistogramVec, Error> {
        self.add(HistogramVec::new(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec()), &[label])?)
    }
}

impl Metrics {
    /// Metrics over the resources in an index.
    pub fn new(index: Arc<Mutex<Index>>, clock: fn() -> Timestamp) -> Result<Self, Error> {
        let mut all = Registrar::new()?;
        let by_outcome = ["portal", "outcome"];
        let requests = "Token requests by portal host and outcome: Issued, or the reason";
        let verifications = "Checks of published tokens by portal host and outcome";
        let reconciles = "Reconciles by outcome: Ok, or the reason shown";
        Ok(Self {
            requests: all.counters("token_requests_total", requests, &by_outcome)?,
            triggers: all.counters("token_triggers_total", "Token requests by what caused them", &["trigger"])?,
            verifications: all.counters("verifications_total", verifications, &by_outcome)?,
            reconciles: all.counters("reconciles_total", reconciles, &["outcome"])?,
            durations: Durations::new(&mut all)?,
            status_write_failures: all.counter("status_write_failures_total", "Writes of a status that failed")?,
            events_dropped: all.counter("events_dropped_total", "Events that were not sent because too many waited")?,
            gauges: Gauges::new(&mut all)?,
            watch_failed: Mutex::default(),
            portals: Mutex::default(),
            series: Series::new(index, clock),
            registry: all.registry,
            described: all.described,
        })
    }

    /// Records whether this replica acts.
    pub fn set_leader(&self, leads: bool) {
        self.gauges.leader.set(i64::from(leads));
    }

    /// Records a token request; without a reason a token was issued. Portals beyond the first thousand are counted together.
    pub fn requested(&self, portal: &str, reason: Option<Reason>, trigger: &str, took: Duration) {
        let portal = self.portal_label(portal);
        let portal = portal.as_str();
        self.requests.with_label_values(&[portal, reason.map_or("Issued", Reason::as_str)]).inc();
        self.triggers.with_label_values(&[trigger]).inc();
        self.durations.request.with_label_values(&[portal]).observe(took.as_secs_f64());
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

    /// Records that an event was not sent because too many wait.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Records the conclusion of a reconcile.
    pub fn concluded(&self, problem: Option<Reason>) {
        self.reconciles.with_label_values(&[problem.map_or("Ok", Reason::as_str)]).inc();
    }

    /// Records the duration of a reconcile.
    pub fn reconciled(&self, took: Duration) {
        self.durations.reconcile.observe(took.as_secs_f64());
    }

    /// Records the first token of a resource, so long after its creation.
    pub fn first_token(&self, after: SignedDuration) {
        self.durations.to_ready.observe(after.as_secs_f64().max(0.0));
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
            self.gauges.watches.with_label_values(&[watch]).set(failing.into());
        }
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather()).ok()?;
        self.series.write(&mut text);
        Some(text)
    }
}
