//! The client of a portal: the token request, the request for the app of a token, and what the answers mean.

mod answer;
mod certificate;
mod client;
mod client_certificate;
mod exchange;
mod fault;
mod guard;
mod handshake;
mod identity;
mod proxy;
mod resolver;
#[cfg(test)]
mod tests;
mod trust;

pub use answer::{ExchangeError, Grant, Head, classify};
pub use certificate::Facts;
pub use client::{CaBundle, CaBundleError, ClientError, PortalClient, Portals};
pub use client_certificate::ClientCertificate;
pub use exchange::{Exchange, TokenRequest, exchange};
pub use guard::ServiceRanges;
pub use handshake::{Route, Session};
pub use identity::{Identified, identify};
pub use proxy::{Proxies, ProxyError};
