//! Tools for tests, demo and benchmarks: a real control plane, a test portal, and a fault-injecting proxy before the
//! API server.

pub mod api_proxy;
pub mod control_plane;
pub mod hostile;
mod https;
pub mod pki;
pub mod portal;
mod processes;
pub mod webhook;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The kernel assigns ports from 32768 on.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 22_000;

/// Installs the process-wide TLS provider; later calls change nothing.
pub fn init_crypto() {
    // This fails only if a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns a loopback address for a server that is started later. Its port is outside the range from which the kernel
/// assigns ports, because another process could get it in the meantime.
pub fn free_address() -> Result<SocketAddr, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(37) % PORTS;
    for _ in 0..PORTS {
        let port = FIRST_PORT + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap_or_default()));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Error("no loopback port is free".to_owned()))
}

/// Sends a signal, such as TERM, to a process.
pub async fn signal(pid: u32, signal: &str) -> Result<(), Error> {
    let sent = tokio::process::Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().await;
    if sent.map_err(doing("sending a signal"))?.success() {
        Ok(())
    } else {
        Err(Error(format!("process {pid} did not get SIG{signal}")))
    }
}

/// A setup failure, described in one line.
#[derive(Debug)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Adds to an error what was being done.
pub fn doing<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    let what = what.into();
    move |error| Error(format!("{what}: {error}"))
}
