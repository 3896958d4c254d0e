//! Credentials, tokens and the target Secret. Nothing here can be printed that must not be.

mod client_certificate;
mod creations;
mod credentials;
mod desired;
pub(crate) mod fingerprint;
mod live;
mod patch;
mod token;

pub use client_certificate::ClientCertificateError;
pub use creations::Creations;
pub use credentials::{Credentials, CredentialsError, Digester};
pub use desired::{DesiredSecret, MAX_TARGET_BYTES, fits, render, rendered_size};
pub use fingerprint::{Fingerprint, fingerprint};
pub use live::{LiveSecret, Owner};
pub use patch::{SecretPatch, zero};
pub use token::{AccessToken, IssuedToken};
