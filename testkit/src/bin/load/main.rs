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
use process::Operator;
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
    let calls = Calls::new(&plane);
    let mut report = Report::default();
    let mut operator = Operator::new(&args.operator, &plane, kubeconfig, &portal);
    let fleet = Fleet::new(client, &portal, args.namespaces, args.concurrency).await?;

    operator.start().await?;
    sleep(SETTLE).await;
    let empty = operator.sample()?;
    report.idle(&empty);

    let foreign = args.foreign.unwrap_or(2 * args.resources);
    fleet.foreign(foreign).await?;
    sleep(SETTLE).await;
    report.foreign(foreign, &operator.sample()?);
    operator.restart().await?;
    sleep(SETTLE).await;
    report.foreign_after_restart(foreign, &operator.sample()?);

    let size = args.resources;
    fleet.credentials(0..size).await?;
    let before = operator.sample()?;
    let began = Instant::now();
    let created = fleet.create(0..size, None).await?;
    let filled = fleet.ready(&created).await?;
    let took = began.elapsed();
    report.filled(size, took, &before, &operator.sample()?, &filled);
    sleep(SETTLE).await;
    report.resident(size, &empty, &operator.sample()?);
    let scraped = operator.http_get("/metrics").await.ok_or_else(|| Error("no metrics".to_owned()))?.len();
    report.scraped(size, scraped, &operator.sample()?);

    let more = size..size + PACED;
    fleet.credentials(more.clone()).await?;
    let created = fleet.create(more, Some(PACE)).await?;
    report.created_paced(&fleet.ready(&created).await?);

    let before = operator.sample()?;
    let rotated = fleet.rotate(0..BURST.min(size), None).await?;
    let waits = fleet.renewed(&rotated).await?;
    report.rotated("at once", waits.len(), &before, &operator.sample()?, &waits);
    let rotated = fleet.rotate(size..size + PACED, Some(PACE)).await?;
    report.rotated_paced(&fleet.renewed(&rotated).await?);

    let (requests, since) = (portal.journal().len(), jiff::Timestamp::now());
    let ready_after = operator.restart().await?;
    sleep(SETTLE).await;
    let after = operator.sample()?;
    let made = calls.since(since).map_err(doing("counting calls"))?;
    report.restarted(size + PACED, ready_after, &after, &made, portal.journal().len() - requests);
    operator.stop().await;
    Ok(report.print())
}
