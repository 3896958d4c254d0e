//! From arguments to a command and an exit code.

use std::alloc::System;
use std::io::Write;
use std::process::ExitCode;

use arcgis_credential_operator::cli::{Cli, Command};
use arcgis_credential_operator::commands::Probed;
use arcgis_credential_operator::{api, commands, ops};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use zeroing_allocator::{Pooled, Zeroing};

/// Libraries copy what they send and receive. With each copy, it is overwritten.
#[global_allocator]
static ALLOCATOR: Zeroing<Pooled<System>> = Zeroing(Pooled(System));

fn main() -> ExitCode {
    // This is the thread that does almost everything.
    ALLOCATOR.0.keep();
    let cli = Cli::parse();
    // A proxy that cannot be used is a flag that does not parse: without it, requests would take another way.
    if !matches!(cli.command, Command::Crd)
        && let Err(error) = commands::proxies()
    {
        Cli::command().error(ErrorKind::ValueValidation, error).exit();
    }
    // Where the kernel refuses it, the process runs without.
    let _ = ops::seal_memory();
    // Fails only where a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // One thread: what takes time here is the network, and threads that wake each other took a fifth of the processor time.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(Err(format!("cannot start: {error}"))),
    };
    say(match cli.command {
        Command::Run(args) => runtime.block_on(commands::run(*args)).map(|()| String::new()),
        Command::Crd => api::crd_yaml().map_err(|error| error.to_string()),
        Command::Probe(args) => match runtime.block_on(commands::probe(*args)) {
            Ok(Probed { shown, error: None }) => Ok(shown),
            Ok(Probed { shown, error: Some(error) }) => {
                let _ = std::io::stdout().write_all(shown.as_bytes());
                Err(error)
            }
            Err(error) => Err(error),
        },
    })
}

/// Prints the outcome. An error of printing has no reader.
fn say(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        // A line of the log that nobody reads may still hold the standard output.
        Ok(text) if text.is_empty() => ExitCode::SUCCESS,
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "error: {text}");
            ExitCode::FAILURE
        }
    }
}
