//! Starts a control plane, for manual use or for a command: `control-plane [--dir D] [-- COMMAND…]`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use testkit::Error;
use testkit::control_plane::{ControlPlane, ENV, binaries};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Args {
    /// Keep its files in this folder
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Enable the admission plugin `OwnerReferencesPermissionEnforcement`
    #[arg(long)]
    guard_owners: bool,
    /// The script that prints the folder of the binaries, after building those that are missing
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/controlplane/build"))]
    build: PathBuf,
    /// Run this command inside the control plane, and stop when it ends
    #[arg(last = true)]
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "control-plane: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<u8, Error> {
    let bin = binaries(&args.build)?;
    let plane = ControlPlane::start(&bin, args.dir, args.guard_owners).await?;
    let listen = |kind| signal(kind).map_err(|error| Error(format!("listening for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let Some((program, rest)) = args.command.split_first() else {
        let _ = writeln!(std::io::stdout(), "export KUBECONFIG={}", plane.kubeconfig().display());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        plane.stop().await;
        return Ok(0);
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program)
        .args(rest)
        .env(ENV, plane.dir())
        .env("KUBECONFIG", plane.kubeconfig())
        .env("PATH", format!("{}:{path}", bin.display()))
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error(format!("{program}: {error}")))?;
    // Ctrl-C reaches the command too, which handles it itself.
    let status = tokio::select! {
        status = command.wait() => status,
        _ = terminate.recv() => command.kill().await.and(command.wait().await),
    };
    plane.stop().await;
    let status = status.map_err(|error| Error(format!("{program}: {error}")))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
