//! The phases of a run, in order. Each leaves the resources ready.

mod creation;
mod renewals;
mod starts;

use std::time::Duration;

use kube::Client;
use testkit::control_plane::{ControlPlane, client};
use testkit::portal::{Certificate, Portal};
use testkit::{Error, doing};
use tokio::time::sleep;

use crate::calls::Calls;
use crate::control_plane_cost::{self, Cost};
use crate::fleet::{Answers, Fleet};
use crate::process::{Operator, Sample};
use crate::report::Report;
use crate::{Args, Phase};

/// By then memory that was allocated for a burst is released, as far as it ever is.
const SETTLE: Duration = Duration::from_secs(10);
/// Changes are made one after the other, so that latency is measured and not queuing.
const PACE: Duration = Duration::from_millis(100);
const PACED: usize = 100;
const SHARDS: usize = 3;

struct Bench<'a> {
    admin: Client,
    plane: &'a ControlPlane,
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
        report: Report::new(args.resources, if args.one_host { "one_host_" } else { "" }),
        operator: Operator::new(&args.operator, &plane, &kubeconfig, &portals, "first"),
        fleet: Fleet::new(admin.clone(), &portals, &args).await?,
        admin,
        plane: &plane,
        portals: &portals,
        created: 0,
        args: args.clone(),
    };
    let operator = |name: &str| Operator::new(&args.operator, &plane, &kubeconfig, &portals, name);
    let shards = (0..SHARDS).map(|n| operator(&format!("shard-{n}")).select(format!("shard={n}"))).collect();
    bench.measure(operator("second"), shards).await?;
    // A build that counts what it runs writes that at its end.
    bench.operator.terminate().await?;
    Ok(bench.report)
}

impl Bench<'_> {
    async fn measure(&mut self, second: Operator, shards: Vec<Operator>) -> Result<(), Error> {
        if self.wants(Phase::Limit) {
            self.limit().await?;
        }
        if self.wants(Phase::OwnCalls) {
            self.own_calls().await?;
        }
        if !self.wants(Phase::Foreign) {
            self.fleet.foreign(0..self.args.foreign, 0).await?;
        }
        self.start().await?;
        if self.wants(Phase::Foreign) {
            self.ignore_foreign().await?;
        }
        self.fleet.credentials(0..self.args.resources, Answers::Later).await?;
        let due = if self.args.one_host { self.due_soon().await? } else { Vec::new() };
        self.create_at_once(due).await?;
        if self.wants(Phase::Idle) {
            self.rest().await?;
        }
        if self.wants(Phase::AmongIdle) {
            let new = self.more_credentials(PACED).await?;
            let waits = self.create_paced(new, PACE).await?;
            self.report.waits("one_among_idle", &waits);
        }
        if self.wants(Phase::Rotation) {
            self.rotate().await?;
        }
        self.starts(second).await?;
        self.renewals().await?;
        if self.wants(Phase::Outage) {
            self.outage().await?;
        }
        if self.wants(Phase::Shards) {
            self.divide(shards).await?;
        }
        Ok(())
    }

    fn wants(&self, phase: Phase) -> bool {
        self.args.only.contains(&phase)
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

    /// Reads what the API server and etcd have spent so far.
    async fn spent(&self) -> Result<Cost, Error> {
        control_plane_cost::sample(&self.admin, self.plane).await
    }

    fn journal(&self) -> usize {
        self.portals.iter().map(|portal| portal.journal().len()).sum()
    }

    async fn start(&mut self) -> Result<(), Error> {
        self.operator.start(false).await?;
        let sample = self.settled().await?;
        self.report.memory("memory_idle", &sample);
        Ok(())
    }
}
