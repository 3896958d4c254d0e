//! Measures what many resources cost the operator and the API server: memory, processor time, requests, and the time
//! until each is ready. Run it inside its own control plane: `control-plane -- bench --operator BINARY --resources N`.

mod calls;
mod fleet;
mod phases;
mod process;
mod report;
mod tracker;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use testkit::Error;

#[derive(Clone, Parser)]
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
    /// Check all tokens with the portal every 15 minutes
    #[arg(long)]
    verification: bool,
    /// Write the measurements to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
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
