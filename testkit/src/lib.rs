//! What tests, demo and benchmarks use: a real control plane, a test portal, and a fault-injecting proxy before the API server.

pub mod api_proxy;
pub mod control_plane;
pub mod hostile;
mod https;
pub mod pki;
pub mod portal;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The kernel gives out ports from 32768 on.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 22_000;

/// Installs the process-wide TLS provider; later calls change nothing.
pub fn init_crypto() {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An address of loopback for a server that is started later. Its port is none that the kernel gives to whoever asks
/// for any: between now and then somebody would get it.
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
    Err(Error("no port of loopback is free".to_owned()))
}

/// What went wrong while setting up, in one line.
#[derive(Debug)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to an error.
pub fn doing<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    let what = what.into();
    move |error| Error(format!("{what}: {error}"))
}
