//! The client of a portal: the token request, the request for the app of a token, and what the answers mean.

mod answer;
mod client;
mod client_certificate;
mod exchange;
mod guard;
mod identity;
#[cfg(test)]
mod tests;

pub use answer::{ExchangeError, Grant, classify};
pub use client::{CaBundle, CaBundleError, ClientError, Portals};
pub use client_certificate::ClientCertificate;
pub use exchange::{TokenRequest, exchange};
pub use guard::ServiceRanges;
pub use identity::{Identified, identify};
