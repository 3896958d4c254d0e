//! Metrics, in Prometheus' text format. Series of a resource are made when scraped, so they go with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge as GaugeValue, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::api::Reason;
use crate::controller::{Index, Report};

/// A request may take 15 s.
const REQUEST_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
const LOOK_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 20.0];
const PREFIX: &str = "arcgis_credential";
/// A watch that fails tries again every 30 s at the latest, and says nothing once it works again.
const WATCH_FAILS: Duration = Duration::from_mins(1);

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    looks: IntCounterVec,
    look_duration: Histogram,
    leader: IntGauge,
    watches: IntGaugeVec,
    watch_failed: Mutex<HashMap<String, Option<Instant>>>,
    described: Vec<String>,
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace(PREFIX).buckets(buckets.to_vec())
}

impl Metrics {
    /// Metrics over the resources in an index.
    pub fn new(index: Arc<Mutex<Index>>, clock: fn() -> Timestamp) -> Result<Self, Error> {
        let mut metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                opts("token_requests_total", "Token requests by portal host and outcome: Issued, or the reason"),
                &["portal", "outcome"],
            )?,
            request_duration: HistogramVec::new(
                histogram("token_request_duration_seconds", "Time that a token request took", &REQUEST_BUCKETS),
                &["portal"],
            )?,
            looks: IntCounterVec::new(
                opts("reconciles_total", "Reconciles by outcome: Ok, or the reason shown"),
                &["outcome"],
            )?,
            look_duration: Histogram::with_opts(histogram(
                "reconcile_duration_seconds",
                "Time that a reconcile took",
                &LOOK_BUCKETS,
            ))?,
            leader: IntGauge::with_opts(opts("leader", "Whether this process acts (1) or stands by (0)"))?,
            watches: IntGaugeVec::new(opts("watch_failing", "1 while a watch on the cluster fails"), &["watch"])?,
            watch_failed: Mutex::default(),
            described: Vec::new(),
        };
        let build = IntGaugeVec::new(opts("build_info", "Build of the operator"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let collectors: [Box<dyn Collector>; 8] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.request_duration.clone()),
            Box::new(metrics.looks.clone()),
            Box::new(metrics.look_duration.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.watches.clone()),
            Box::new(build),
            Box::new(Resources::new(index, clock)?),
        ];
        for collector in collectors {
            metrics.described.extend(collector.desc().iter().map(|desc| desc.fq_name.clone()));
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Whether this process acts.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A token request has ended; no reason: a token was issued.
    pub fn requested(&self, portal: &str, reason: Option<Reason>, took: Duration) {
        self.requests.with_label_values(&[portal, reason.map_or("Issued", Reason::as_str)]).inc();
        self.request_duration.with_label_values(&[portal]).observe(took.as_secs_f64());
    }

    /// A reconcile has concluded.
    pub fn concluded(&self, problem: Option<Reason>) {
        self.looks.with_label_values(&[problem.map_or("Ok", Reason::as_str)]).inc();
    }

    /// A reconcile has ended.
    pub fn looked(&self, took: Duration) {
        self.look_duration.observe(took.as_secs_f64());
    }

    /// A watch has told something, or has failed.
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
        TextEncoder::new().encode_to_string(&self.registry.gather()).ok()
    }
}

/// One gauge for each resource that has a value.
struct PerResource {
    desc: Desc,
    value: fn(&Report) -> Option<i64>,
}

/// What is read off the index.
struct Resources {
    index: Arc<Mutex<Index>>,
    clock: fn() -> Timestamp,
    gauges: Vec<PerResource>,
    problem: Desc,
    overdue: Desc,
}

impl Resources {
    fn new(index: Arc<Mutex<Index>>, clock: fn() -> Timestamp) -> Result<Self, Error> {
        let desc = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(format!("{PREFIX}_{name}"), help.to_owned(), labels, HashMap::new())
        };
        let gauge =
            |name, help, value| desc(name, help, &["namespace", "name"]).map(|desc| PerResource { desc, value });
        let gauges = vec![
            gauge("ready", "1 where the target holds a valid token", |r| Some(r.ready.into()))?,
            gauge("token_expiry_timestamp_seconds", "When the token ends", |r| r.expires_at.map(Timestamp::as_second))?,
            gauge("token_renewal_timestamp_seconds", "When the token is to be renewed", |r| {
                r.renew_at.filter(|_| !r.suspended).map(Timestamp::as_second)
            })?,
        ];
        let problem = desc("problem", "1 with the reason, while there is one", &["namespace", "name", "reason"])?;
        let overdue = desc("overdue_seconds", "How late the most overdue refresh is", &[])?;
        Ok(Self { index, clock, gauges, problem, overdue })
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
fn sample(labels: &[(&str, &str)], value: i64) -> Metric {
    let mut gauge = GaugeValue::default();
    gauge.set_value(value as f64);
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut metric = Metric::from_label(labels.iter().map(pair).collect());
    metric.set_gauge(gauge);
    metric
}

fn family(desc: &Desc, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(samples);
    family
}

impl Collector for Resources {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().map(|gauge| &gauge.desc).chain([&self.problem, &self.overdue]).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let resources: Vec<_> = index.iter().filter(|(_, resource)| !resource.deleting).collect();
        let mut families: Vec<MetricFamily> = self
            .gauges
            .iter()
            .map(|gauge| {
                let sample = |(key, resource): &(&crate::controller::Key, &crate::controller::Entry)| {
                    let labels = [("namespace", key.namespace.as_str()), ("name", key.name.as_str())];
                    (gauge.value)(&resource.report).map(|value| sample(&labels, value))
                };
                family(&gauge.desc, resources.iter().filter_map(sample).collect())
            })
            .collect();
        let problem = |(key, resource): &(&crate::controller::Key, &crate::controller::Entry)| {
            let reason = resource.report.problem?.as_str();
            Some(sample(&[("namespace", &key.namespace), ("name", &key.name), ("reason", reason)], 1))
        };
        families.push(family(&self.problem, resources.iter().filter_map(problem).collect()));
        let now = (self.clock)().as_second();
        let late = resources
            .iter()
            .filter(|(_, resource)| !resource.report.suspended)
            .filter_map(|(_, resource)| Some(now - resource.report.renew_at?.as_second()));
        families.push(family(&self.overdue, vec![sample(&[], late.max().unwrap_or(0).max(0))]));
        // A family without samples cannot be encoded.
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}
