//! What tests, demo and benchmarks stand on: a real control plane, a stand-in portal, and a tap on the API server.

pub mod control_plane;
pub mod hostile;
mod https;
pub mod portal;
pub mod tap;

/// Installs the process-wide TLS provider; later calls change nothing.
pub fn init_crypto() {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
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
