//! Measures what many resources cost the operator: memory, processor time, calls, and the time until each is ready. Run
//! it inside its own control plane: `control-plane -- load --operator BINARY --resources N`.

mod calls;
mod fleet;
mod process;
mod report;
mod tracker;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use testkit::control_plane::{ControlPlane, client};
use testkit::portal::{Certificate, Portal};
use testkit::{Error, doing};
use tokio::time::sleep;

use calls::Calls;
use fleet::Fleet;
use process::{Operator, Sample};
use report::Report;

/// By then memory that was allocated for a burst is released, as far as it ever is.
const SETTLE: Duration = Duration::from_secs(10);
/// Changes are made one after the other, so that latency is measured and not queuing.
const PACE: Duration = Duration::from_millis(100);
const PACED: usize = 200;
const BURST: usize = 500;

#[derive(Parser)]
struct Args {
    /// The operator's binary
    #[arg(long)]
    operator: PathBuf,
    /// The kustomization that installs it
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kustomize/base"))]
    install: PathBuf,
    #[arg(long, default_value_t = 2000)]
    resources: usize,
    /// Secrets and ConfigMaps that no resource names; every twentieth has 100 KiB. [default: two for each resource]
    #[arg(long)]
    foreign: Option<usize>,
    #[arg(long, default_value_t = 20)]
    namespaces: usize,
    /// How many objects are created concurrently
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "load: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<bool, Error> {
    let plane = ControlPlane::from_env()?;
    let portal = Portal::start(([127, 0, 0, 1], 0).into(), Certificate::Good).await?;
    let kubeconfig = plane.kubeconfig_for("load-operator", &plane.install(&args.install).await?)?;
    let client = client(&plane.kubeconfig()).await?;
    let mut load = Load {
        calls: Calls::new(&plane),
        report: Report::default(),
        operator: Operator::new(&args.operator, &plane, kubeconfig, &portal),
        fleet: Fleet::new(client, &portal, args.namespaces, args.concurrency).await?,
        portal: &portal,
        size: args.resources,
    };
    load.measure(args.foreign.unwrap_or(2 * args.resources)).await?;
    load.operator.stop().await;
    Ok(load.report.print())
}

struct Load<'a> {
    calls: Calls,
    report: Report,
    operator: Operator,
    fleet: Fleet<'a>,
    portal: &'a Portal,
    size: usize,
}

impl Load<'_> {
    async fn measure(&mut self, foreign: usize) -> Result<(), Error> {
        self.operator.start().await?;
        let empty = self.settled().await?;
        self.report.idle(&empty);
        self.ignore_foreign(foreign).await?;
        self.create_at_once(&empty).await?;
        self.create_paced().await?;
        self.rotate().await?;
        self.restart().await
    }

    async fn settled(&self) -> Result<Sample, Error> {
        sleep(SETTLE).await;
        self.operator.sample()
    }

    /// Measures objects that no resource names, when they appear and when they are listed.
    async fn ignore_foreign(&mut self, count: usize) -> Result<(), Error> {
        self.fleet.foreign(count).await?;
        self.report.foreign(count, &self.settled().await?);
        self.operator.restart().await?;
        self.report.foreign_after_restart(count, &self.settled().await?);
        Ok(())
    }

    async fn create_at_once(&mut self, empty: &Sample) -> Result<(), Error> {
        let size = self.size;
        self.fleet.credentials(0..size).await?;
        let before = self.operator.sample()?;
        let began = Instant::now();
        let created = self.fleet.create(0..size, None).await?;
        let filled = self.fleet.ready(&created).await?;
        self.report.filled(size, began.elapsed(), &before, &self.operator.sample()?, &filled);
        self.report.resident(size, empty, &self.settled().await?);
        let scraped = self.operator.http_get("/metrics").await.ok_or_else(|| Error("no metrics".to_owned()))?.len();
        self.report.scraped(size, scraped, &self.operator.sample()?);
        Ok(())
    }

    async fn create_paced(&mut self) -> Result<(), Error> {
        let more = self.size..self.size + PACED;
        self.fleet.credentials(more.clone()).await?;
        let created = self.fleet.create(more, Some(PACE)).await?;
        self.report.created_paced(&self.fleet.ready(&created).await?);
        Ok(())
    }

    /// Measures credentials that change at once, then one after the other.
    async fn rotate(&mut self) -> Result<(), Error> {
        let before = self.operator.sample()?;
        let rotated = self.fleet.rotate(0..BURST.min(self.size), None).await?;
        let waits = self.fleet.renewed(&rotated).await?;
        self.report.rotated("at once", waits.len(), &before, &self.operator.sample()?, &waits);
        let rotated = self.fleet.rotate(self.size..self.size + PACED, Some(PACE)).await?;
        self.report.rotated_paced(&self.fleet.renewed(&rotated).await?);
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), Error> {
        let (requests, since) = (self.portal.journal().len(), jiff::Timestamp::now());
        let ready_after = self.operator.restart().await?;
        let after = self.settled().await?;
        let made = self.calls.since(since).map_err(doing("counting calls"))?;
        let requests = self.portal.journal().len() - requests;
        self.report.restarted(self.size + PACED, ready_after, &after, &made, requests);
        Ok(())
    }
}
