//! The token request: one POST with the client credentials (RFC 6749, section 4.4).

use std::error::Error;

use jiff::Timestamp;
use reqwest::header::{REFERER, RETRY_AFTER};
use reqwest::{Client, Response};
use rustls::AlertDescription;
use tokio::time::timeout;

use super::answer::{ExchangeError, Grant, MAX_BODY, classify};
use super::client::TOTAL;
use crate::api::Reason;
use crate::core::Credentials;

/// What to request, and from which portal.
pub struct TokenRequest<'a> {
    /// The portal's base URL, without `/sharing/rest`.
    pub portal: &'a str,
    pub credentials: &'a Credentials,
    /// In seconds; sent in whole minutes, rounded up.
    pub lifetime: Option<u64>,
    pub referer: Option<&'a str>,
}

/// Requests a token with the client credentials. `clock` is the time that a `Retry-After` date is compared with.
pub async fn exchange(
    client: &Client,
    request: &TokenRequest<'_>,
    clock: fn() -> Timestamp,
) -> Result<Grant, ExchangeError> {
    let minutes = request.lifetime.map(|seconds| seconds.div_ceil(60).to_string());
    let mut form = vec![
        ("f", "json"),
        ("client_id", request.credentials.id()),
        ("client_secret", request.credentials.secret()),
        ("grant_type", "client_credentials"),
    ];
    form.extend(minutes.as_deref().map(|minutes| ("expiration", minutes)));
    let url = format!("{}/sharing/rest/oauth2/token", request.portal);
    let attempt = async {
        let mut post = client.post(url).form(&form);
        if let Some(referer) = request.referer {
            post = post.header(REFERER, referer);
        }
        let again = post.try_clone();
        let answer = match (post.send().await, again) {
            // A server that rejects a client certificate with TLS 1.3 closes the connection after the handshake. When that
            // is sooner than the request, only another connection shows the alert.
            (Err(error), Some(again)) if was_not_sent(&error) => again.send().await,
            (answer, _) => answer,
        };
        let answer = answer.map_err(|error| ExchangeError::from(blame(&error)))?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = match read(answer, MAX_BODY).await {
            Ok(body) => body,
            // An error status says enough without its body.
            Err(_) if status >= 400 => Vec::new(),
            Err(error) => return Err(error),
        };
        classify(status, retry_after.as_deref(), &body, clock())
    };
    timeout(TOTAL, attempt).await.unwrap_or_else(|_| Err(Reason::PortalUnreachable.into()))
}

/// The body, up to a limit.
pub(super) async fn read(mut answer: Response, limit: usize) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err(Reason::PortalUnreachable.into()),
            Ok(Some(_)) | Err(_) => return Err(Reason::MalformedResponse.into()),
        }
    }
}

/// Whether a server ends a handshake like this because there is no client certificate, or not one that it accepts. Before
/// TLS 1.3 many report a missing one as a failed handshake.
pub(super) fn asks_for_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}

/// A certificate that does not verify, or an answer that is not HTTP, looks like a refused connection. Only the chain of
/// causes distinguishes them.
fn blame(error: &reqwest::Error) -> Reason {
    for current in causes(error) {
        match current.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(_)) => return Reason::PortalUntrusted,
            Some(rustls::Error::AlertReceived(alert)) if asks_for_certificate(*alert) => {
                return Reason::RequestRejected;
            }
            _ => {}
        }
        // Something answered, but not in HTTP.
        if current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Reason::MalformedResponse;
        }
    }
    Reason::PortalUnreachable
}

/// Whether a connection ended before any of the request was sent, and without an alert.
fn was_not_sent(error: &reqwest::Error) -> bool {
    let canceled =
        |cause: &(dyn Error + 'static)| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
    causes(error).any(canceled) && blame(error) == Reason::PortalUnreachable
}

/// An error and its causes.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |current| {
        let current: &(dyn Error + 'static) = *current;
        match current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        }
    })
}
