//! The phases of a run, in order. Each leaves the resources ready.

use std::time::{Duration, Instant};

use futures::future::join_all;
use testkit::control_plane::{ControlPlane, client};
use testkit::portal::{Certificate, Portal};
use testkit::{Error, doing};
use tokio::time::sleep;

use crate::Args;
use crate::calls::Calls;
use crate::fleet::{DEFAULT_LIFETIME, Fleet};
use crate::process::{Operator, Sample};
use crate::report::{Report, count, float};

/// By then memory that was allocated for a burst is released, as far as it ever is.
const SETTLE: Duration = Duration::from_secs(10);
/// Changes are made one after the other, so that latency is measured and not queuing.
const PACE: Duration = Duration::from_millis(100);
const PACED: usize = 100;
/// How many are written to find the limit of the API server.
const CALIBRATED: usize = 2000;
/// How many tokens are renewed a second in the steady state, for which the lifetimes are chosen.
const STEADY_RENEWALS: usize = 80;
const STEADY: Duration = Duration::from_mins(1);
const OUTAGE: Duration = Duration::from_secs(90);
/// How many tokens come due during the outage and right after it, one after the other.
const DUE_IN_OUTAGE: usize = 300;
const DUE_AFTER_OUTAGE: usize = 10;
const SHARDS: usize = 3;
/// Secrets of others with annotations of this size.
const LARGE: (usize, usize) = (300, 200 * 1024);

struct Bench<'a> {
    calls: Calls,
    report: Report,
    operator: Operator,
    fleet: Fleet<'a>,
    portals: &'a [Portal],
    args: Args,
    /// How many resources exist.
    created: usize,
}

/// Runs all phases.
pub async fn run(args: Args) -> Result<Report, Error> {
    let plane = ControlPlane::from_env()?;
    let mut portals = Vec::new();
    for _ in 0..args.portals.max(1) {
        portals.push(Portal::start(([127, 0, 0, 1], 0).into(), Certificate::Good).await?);
    }
    let kubeconfig = plane.kubeconfig_for("bench-operator", &plane.install(&args.install).await?)?;
    let admin = client(&plane.kubeconfig()).await?;
    let mut bench = Bench {
        calls: Calls::new(&plane),
        report: Report::new(args.resources),
        operator: Operator::new(&args.operator, &plane, &kubeconfig, &portals, "first"),
        fleet: Fleet::new(admin, &portals, &args).await?,
        portals: &portals,
        created: 0,
        args: args.clone(),
    };
    let operator = |name: &str| Operator::new(&args.operator, &plane, &kubeconfig, &portals, name);
    let shards = (0..SHARDS).map(|n| operator(&format!("shard-{n}")).select(format!("shard={n}"))).collect();
    bench.measure(operator("second"), shards).await?;
    bench.operator.stop().await;
    Ok(bench.report)
}

impl Bench<'_> {
    async fn measure(&mut self, second: Operator, shards: Vec<Operator>) -> Result<(), Error> {
        self.calibrate().await?;
        self.start().await?;
        self.ignore_foreign().await?;
        self.create_at_once().await?;
        self.rest().await?;
        self.create_paced("one_among_idle").await?;
        self.renew().await?;
        self.rotate().await?;
        self.restart().await?;
        self.hand_over(second).await?;
        self.renew_steadily().await?;
        self.outage().await?;
        self.divide(shards).await
    }

    async fn settled(&self) -> Result<Sample, Error> {
        sleep(SETTLE).await;
        self.operator.sample()
    }

    fn requests(&mut self, id: &str, each: usize, since: jiff::Timestamp) -> Result<(), Error> {
        let calls = self.calls.since(since).map_err(doing("counting calls"))?;
        self.report.requests(id, each, &calls);
        Ok(())
    }

    fn journal(&self) -> usize {
        self.portals.iter().map(|portal| portal.journal().len()).sum()
    }

    /// Measures how fast this API server takes the writes that a renewal, and the calls that a creation cannot avoid.
    async fn calibrate(&mut self) -> Result<(), Error> {
        let each = self.args.resources.min(CALIBRATED);
        let took = self.fleet.calibrate_renewal(each).await?;
        self.report.add("limit", count(each) / took.as_secs_f64(), "pairs/s");
        let took = self.fleet.calibrate_creation(each).await?;
        self.report.add("limit_creation", count(each) / took.as_secs_f64(), "resources/s");
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Error> {
        self.operator.start(false).await?;
        let sample = self.settled().await?;
        self.report.memory("memory_idle", &sample);
        Ok(())
    }

    /// Measures Secrets that no resource names, when they appear and when they are listed.
    async fn ignore_foreign(&mut self) -> Result<(), Error> {
        let before = self.operator.sample()?;
        self.fleet.foreign(0..self.args.foreign, 0).await?;
        let after = self.settled().await?;
        self.report.add("foreign_cpu", after.cpu - before.cpu, "s");
        self.report.memory("memory_foreign", &after);
        self.fleet.foreign(self.args.foreign..self.args.foreign + LARGE.0, LARGE.1).await?;
        let after = self.settled().await?;
        self.report.memory("memory_large_foreign", &after);
        let ready = self.operator.restart(false).await?;
        self.report.seconds("restart_foreign_ready", ready);
        let after = self.settled().await?;
        self.report.memory("memory_foreign_listed", &after);
        Ok(())
    }

    async fn create_at_once(&mut self) -> Result<(), Error> {
        let size = self.args.resources;
        self.fleet.credentials(0..size).await?;
        let (before, since, began) = (self.operator.sample()?, jiff::Timestamp::now(), Instant::now());
        let created = self.fleet.create(0..size, None).await?;
        let sent = began.elapsed();
        let waits = self.fleet.ready(&created).await?;
        let took = began.elapsed();
        self.created = size;
        self.report.seconds("creation_sent", sent);
        self.report.seconds("creation", took);
        self.report.add("creation_rate", count(size) / took.as_secs_f64(), "pairs/s");
        self.report.waits("creation_wait", &waits);
        self.report.cpu("creation_cpu", size, &before, &self.operator.sample()?);
        let after = self.settled().await?;
        self.requests("creation_requests", size, since)?;
        self.report.memory("memory_resources", &after);
        Ok(())
    }

    /// Measures resources for which nothing is due, and a scrape of their metrics.
    async fn rest(&mut self) -> Result<(), Error> {
        let (after, since) = (self.operator.sample()?, jiff::Timestamp::now());
        let idle = self.settled().await?;
        self.report.add("idle_cpu", (idle.cpu - after.cpu) / SETTLE.as_secs_f64() * 1000.0, "ms/s");
        self.requests("idle_requests", 1, since)?;
        let length = self.operator.http_get("/metrics").await.ok_or_else(|| Error("no metrics".to_owned()))?.len();
        self.report.add("metrics_size", count(length) / 1024.0 / 1024.0, "MiB");
        let sample = self.operator.sample()?;
        self.report.memory("memory_scraped", &sample);
        Ok(())
    }

    /// Measures new resources beside those that exist.
    async fn create_paced(&mut self, id: &str) -> Result<(), Error> {
        let more = self.created..self.created + PACED;
        self.fleet.credentials(more.clone()).await?;
        self.created = more.end;
        let created = self.fleet.create(more, Some(PACE)).await?;
        let waits = self.fleet.ready(&created).await?;
        self.report.waits(id, &waits);
        Ok(())
    }

    /// Measures the renewal of all tokens at once.
    async fn renew(&mut self) -> Result<(), Error> {
        let size = self.args.resources;
        let (before, since, began) = (self.operator.sample()?, jiff::Timestamp::now(), Instant::now());
        let requested = self.fleet.request_tokens(0..size, None).await?;
        self.fleet.renewed(&requested).await?;
        let took = began.elapsed();
        self.report.add("renewal_rate", count(size) / took.as_secs_f64(), "pairs/s");
        self.report.cpu("renewal_cpu", size, &before, &self.operator.sample()?);
        sleep(SETTLE).await;
        self.requests("renewal_requests", size, since)
    }

    async fn rotate(&mut self) -> Result<(), Error> {
        let rotated = self.fleet.rotate(self.created - PACED..self.created, PACE).await?;
        let waits = self.fleet.renewed(&rotated).await?;
        self.report.waits("rotation_among_idle", &waits);
        Ok(())
    }

    /// Measures a restart, planned and by SIGKILL: what it asks of the API server and of the portals.
    async fn restart(&mut self) -> Result<(), Error> {
        for (id, planned) in [("restart", true), ("kill", false)] {
            let requests = self.journal();
            if planned {
                let began = Instant::now();
                self.operator.terminate().await?;
                self.report.seconds("restart_ended", began.elapsed());
            }
            let since = jiff::Timestamp::now();
            let ready = self.operator.restart(false).await?;
            self.report.seconds(&format!("{id}_ready"), ready);
            let after = self.settled().await?;
            let last = self.calls.last(since).map_err(doing("reading the log"))?;
            let quiet = last.map_or(0.0, |last| last.duration_since(since).as_secs_f64());
            self.report.add(format!("{id}_quiet"), quiet, "s");
            self.report.memory(&format!("memory_after_{id}"), &after);
            self.report.add(format!("{id}_cpu"), after.cpu, "s");
            self.requests(&format!("{id}_requests"), 1, since)?;
            self.report.add(format!("{id}_token_requests"), count(self.journal() - requests), "requests");
        }
        Ok(())
    }

    /// Measures how long a new resource waits when the leader stops, and when it is killed.
    async fn hand_over(&mut self, mut second: Operator) -> Result<(), Error> {
        self.operator.stop().await;
        self.operator.start(true).await?;
        self.operator.leads().await?;
        for id in ["hand_over_planned", "hand_over_unplanned"] {
            second.start(true).await?;
            sleep(SETTLE).await;
            let n = self.created;
            self.fleet.credentials(n..n + 1).await?;
            self.created += 1;
            let began = Instant::now();
            let created = if id == "hand_over_planned" {
                let (ended, created) = tokio::join!(self.operator.terminate(), self.fleet.create(n..n + 1, None));
                ended?;
                created?
            } else {
                self.operator.stop().await;
                self.fleet.create(n..n + 1, None).await?
            };
            self.fleet.ready(&created).await?;
            self.report.seconds(id, began.elapsed());
            std::mem::swap(&mut self.operator, &mut second);
        }
        self.operator.restart(false).await?;
        Ok(())
    }

    /// Measures renewals that come due by themselves, and new resources beside them.
    async fn renew_steadily(&mut self) -> Result<(), Error> {
        let size = self.args.resources;
        // A token is renewed after 0.44 of a short lifetime on average.
        let lifetime = u64::try_from(size * 100 / (44 * STEADY_RENEWALS)).unwrap_or(60).max(60);
        self.fleet.set_lifetime(lifetime);
        let requested = self.fleet.request_tokens(0..size, None).await?;
        self.fleet.renewed(&requested).await?;
        sleep(Duration::from_secs(lifetime)).await;
        let (before, since, requests) = (self.operator.sample()?, jiff::Timestamp::now(), self.journal());
        sleep(STEADY).await;
        let renewed = self.journal() - requests;
        self.report.add("steady_rate", count(renewed) / STEADY.as_secs_f64(), "pairs/s");
        self.report.cpu("steady_cpu", renewed.max(1), &before, &self.operator.sample()?);
        self.requests("steady_requests", renewed.max(1), since)?;
        self.create_paced("one_among_renewals").await
    }

    /// Measures how long after an outage of all portals every token is renewed that came due meanwhile.
    async fn outage(&mut self) -> Result<(), Error> {
        self.fleet.set_lifetime(DEFAULT_LIFETIME);
        let renewed = self.fleet.request_tokens(0..self.args.resources, None).await?;
        self.fleet.renewed(&renewed).await?;
        self.portals.iter().for_each(|portal| portal.set_outage(true));
        let due = self.created.min(DUE_IN_OUTAGE + DUE_AFTER_OUTAGE) - DUE_AFTER_OUTAGE;
        let pace = OUTAGE / u32::try_from(due).unwrap_or(u32::MAX);
        let requested = self.fleet.request_tokens(0..due, Some(pace)).await?;
        self.report.add("outage_failing", count(self.operator.problems().await?), "resources");
        self.portals.iter().for_each(|portal| portal.set_outage(false));
        let began = Instant::now();
        let after = self.fleet.request_tokens(due..due + DUE_AFTER_OUTAGE, Some(pace));
        let (after, renewed) = tokio::join!(after, self.fleet.renewed(&requested));
        after?;
        renewed?;
        self.report.seconds("outage_recovery", began.elapsed());
        let after = self.operator.sample()?;
        self.report.memory("memory_end", &after);
        Ok(())
    }

    /// Measures several operators that share the resources by a label, and resources that move between them.
    async fn divide(&mut self, mut shards: Vec<Operator>) -> Result<(), Error> {
        self.operator.stop().await;
        self.fleet.assign(0..self.created, |n| n % SHARDS).await?;
        let (requests, since) = (self.journal(), jiff::Timestamp::now());
        let began = Instant::now();
        for ready in join_all(shards.iter_mut().map(|shard| shard.start(false))).await {
            ready?;
        }
        self.report.seconds("shards_ready", began.elapsed());
        sleep(SETTLE).await;
        let mut memory = 0;
        for shard in &shards {
            memory = memory.max(shard.sample()?.resident);
        }
        self.report.add("shards_memory", float(memory) / 1024.0, "MiB");
        self.fleet.assign(0..self.created.min(PACED), |n| (n + 1) % SHARDS).await?;
        sleep(SETTLE).await;
        self.requests("shards_requests", 1, since)?;
        self.report.add("shards_token_requests", count(self.journal() - requests), "requests");
        for shard in &mut shards {
            shard.terminate().await?;
        }
        Ok(())
    }
}
