//! Measures what many resources cost the operator and the API server: memory, processor time, requests, and the time
//! until each is ready. Run it inside its own control plane: `control-plane -- bench --operator BINARY --resources N`.

mod calls;
mod control_plane_cost;
mod fleet;
mod limits;
mod phases;
mod process;
mod report;
mod tracker;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use testkit::Error;

#[derive(Clone, Parser)]
#[command(args_override_self = true)]
struct Args {
    /// The operator's binary
    #[arg(long)]
    operator: PathBuf,
    /// The kustomization that installs it
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kustomize/base"))]
    install: PathBuf,
    #[arg(long, default_value_t = 1000)]
    resources: usize,
    /// Secrets that no resource names
    #[arg(long, default_value_t = 30_000)]
    foreign: usize,
    /// The resources are spread over this many namespaces [default: one for 20 resources]
    #[arg(long)]
    namespaces: Option<usize>,
    /// The resources are spread over this many portals; each takes 100 ms on average and 8 requests at once
    #[arg(long, default_value_t = 16)]
    portals: usize,
    /// How many objects are created concurrently
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Measure only these, besides the creation of all resources at once
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Phase::value_variants().iter().copied())]
    only: Vec<Phase>,
    /// One portal for all resources, as with ArcGIS Online: measure creation, renewal, and tokens that are due meanwhile
    #[arg(long)]
    one_host: bool,
    /// Check all tokens with the portal every 15 minutes
    #[arg(long)]
    verification: bool,
    /// Write the measurements to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is measured besides the creation of all resources at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Two writes for each renewal
    Limit,
    /// The operator's calls for each creation
    OwnCalls,
    /// Secrets that no resource names
    Foreign,
    /// Nothing is due
    Idle,
    /// New resources beside idle ones
    AmongIdle,
    Rotation,
    Restart,
    Kill,
    HandOver,
    Renewal,
    /// Renewals that come due by themselves
    Steady,
    /// New resources beside renewals
    AmongRenewals,
    Outage,
    Shards,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.one_host {
        (args.portals, args.foreign, args.only) = (1, 0, vec![Phase::Renewal]);
    }
    let json = args.json.clone();
    let measured = async {
        let report = phases::run(args).await?;
        json.map_or(Ok(()), |path| report.write(&path)).map(|()| report.print())
    };
    match measured.await as Result<(), Error> {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::from(2)
        }
    }
}
