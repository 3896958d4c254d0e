//! Credentials, tokens and the target Secret. Nothing here can be printed that must not be.

mod client_certificate;
mod credentials;
pub(crate) mod target;
mod token;

pub use client_certificate::ClientCertificateError;
pub use credentials::{Credentials, CredentialsError, Digester};
pub use target::{DesiredSecret, IssuedToken, LiveSecret, Owner, SecretPatch, fingerprint, render, zero};
pub use token::AccessToken;
