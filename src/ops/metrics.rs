//! Metrics, in the `OpenMetrics` format. Series of a resource are made when scraped, so they go with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Reason;
use crate::controller::Index;

/// A request may take 15 s.
const REQUEST_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
const LOOK_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 20.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortalOutcome {
    portal: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Portal {
    portal: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<PortalOutcome, Counter>,
    request_duration: Family<Portal, Histogram>,
    looks: Family<Outcome, Counter>,
    look_duration: Histogram,
}

impl Metrics {
    /// Metrics over the resources in an index.
    #[must_use]
    pub fn new(index: Arc<Mutex<Index>>, clock: fn() -> Timestamp) -> Self {
        let mut registry = Registry::with_prefix("arcgis_credential");
        let requests = Family::<PortalOutcome, Counter>::default();
        registry.register("token_requests", "Token requests by portal host and outcome", requests.clone());
        let request_duration = Family::<Portal, Histogram>::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS));
        registry.register_with_unit(
            "token_request_duration",
            "Time that a token request took",
            Unit::Seconds,
            request_duration.clone(),
        );
        let looks = Family::<Outcome, Counter>::default();
        registry.register("reconciles", "Reconciles by outcome: Ok or the reason shown", looks.clone());
        let look_duration = Histogram::new(LOOK_BUCKETS);
        registry.register_with_unit(
            "reconcile_duration",
            "Time that a reconcile took",
            Unit::Seconds,
            look_duration.clone(),
        );
        let leader = Gauge::<i64>::default();
        leader.set(1);
        registry.register("leader", "1 where this process acts, 0 where it stands by", leader);
        registry.register("build", "Build of the operator", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(Resources { index, clock }));
        Self { registry, requests, request_duration, looks, look_duration }
    }

    /// A token request has ended; no reason: a token was issued.
    pub fn requested(&self, portal: &str, reason: Option<Reason>, took: Duration) {
        let portal = portal.to_owned();
        let outcome = reason.map_or("Issued", Reason::as_str);
        self.requests.get_or_create(&PortalOutcome { portal: portal.clone(), outcome }).inc();
        self.request_duration.get_or_create(&Portal { portal }).observe(took.as_secs_f64());
    }

    /// A reconcile has concluded.
    pub fn concluded(&self, problem: Option<Reason>) {
        self.looks.get_or_create(&Outcome { outcome: problem.map_or("Ok", Reason::as_str) }).inc();
    }

    /// A reconcile has ended.
    pub fn looked(&self, took: Duration) {
        self.look_duration.observe(took.as_secs_f64());
    }

    /// The text to be scraped.
    #[must_use]
    pub fn render(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok().map(|()| text)
    }
}

struct Resources {
    index: Arc<Mutex<Index>>,
    clock: fn() -> Timestamp,
}

impl std::fmt::Debug for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resources")
    }
}

impl Collector for Resources {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let resources: Vec<_> = index.iter().filter(|(_, resource)| !resource.deleting).collect();
        let mut gauge = |name: &str, help: &str, value: &dyn Fn(&crate::controller::Report) -> Option<i64>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (key, resource) in &resources {
                if let Some(value) = value(&resource.report) {
                    let labels = [("namespace", key.namespace.as_str()), ("name", key.name.as_str())];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
            Ok::<(), std::fmt::Error>(())
        };
        let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_second);
        gauge("ready", "1 where the target holds a valid token", &|report| Some(i64::from(report.ready)))?;
        gauge("token_expiry_timestamp_seconds", "When the token ends", &|report| seconds(report.expires_at))?;
        gauge("token_renewal_timestamp_seconds", "When the token is to be renewed", &|r| seconds(r.renew_at))?;
        let mut family =
            encoder.encode_descriptor("problem", "1 with the reason, while there is one", None, MetricType::Gauge)?;
        for (key, resource) in &resources {
            if let Some(reason) = resource.report.problem {
                let labels =
                    [("namespace", key.namespace.as_str()), ("name", key.name.as_str()), ("reason", reason.as_str())];
                ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
            }
        }
        let now = (self.clock)();
        let late = resources
            .iter()
            .filter_map(|(_, resource)| resource.report.renew_at)
            .map(|renew_at| now.as_second() - renew_at.as_second());
        let overdue = encoder.encode_descriptor(
            "overdue_seconds",
            "How late the most overdue refresh is",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(late.max().unwrap_or(0).max(0)).encode(overdue)
    }
}
