//! A test portal for manual use: `portal --app ID:SECRET --ca-out ca.pem`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use testkit::Error;
use testkit::portal::{App, Certificate, Portal};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The file that the CA of its certificate is written to
    #[arg(long)]
    ca_out: PathBuf,
    /// An app, as ID:SECRET; may be repeated
    #[arg(long = "app")]
    apps: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "portal: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Error> {
    let portal = Portal::start(args.listen, Certificate::Good).await?;
    for app in &args.apps {
        let (id, secret) = app.split_once(':').ok_or_else(|| Error("--app takes ID:SECRET".to_owned()))?;
        portal.app(id, App { secret: secret.to_owned(), ..App::default() });
    }
    std::fs::write(&args.ca_out, portal.ca()).map_err(|error| Error(format!("{}: {error}", args.ca_out.display())))?;
    let _ = writeln!(std::io::stdout(), "{}", portal.url());
    let _ = tokio::signal::ctrl_c().await;
    Ok(())
}
