//! The token request: one POST with the client credentials (RFC 6749, section 4.4).

use std::io::Read;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, DATE, HeaderMap, HeaderName, REFERER, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::tls::TlsInfo;
use reqwest::{RequestBuilder, Response};
use tokio::time::timeout;

use super::answer::{ExchangeError, Grant, Head, MAX_BODY, classify};
use super::certificate::not_after;
use super::client::{PortalClient, TOTAL};
use super::fault::{Failed, failed, was_not_sent};
use super::handshake::Route;
use crate::api::{Cause, Fault, Reason};
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

/// What came of a request.
pub struct Exchange {
    pub answer: Result<Grant, ExchangeError>,
    /// When the certificate of the server expires; of one that is not trusted because it has expired, when it did.
    pub certificate_expires: Option<Timestamp>,
}

/// Requests a token with the client credentials. `clock` is the time that a `Retry-After` date is compared with, where the
/// response has no date of its own.
pub async fn exchange(client: &PortalClient, request: &TokenRequest<'_>, clock: fn() -> Timestamp) -> Exchange {
    let minutes = request.lifetime.map(|seconds| seconds.div_ceil(60).to_string());
    let mut form = vec![
        ("f", "json"),
        ("client_id", request.credentials.id()),
        ("client_secret", request.credentials.secret()),
        ("grant_type", "client_credentials"),
    ];
    form.extend(minutes.as_deref().map(|minutes| ("expiration", minutes)));
    let url = format!("{}/sharing/rest/oauth2/token", request.portal);
    let mut post = client.http.post(url).header(ACCEPT_ENCODING, "identity").form(&form);
    if let Some(referer) = request.referer {
        post = post.header(REFERER, referer);
    }
    let mut certificate_expires = None;
    let attempt = async {
        let answer = send(client, request.portal, post).await?;
        certificate_expires = expires(&answer);
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = match read(answer, MAX_BODY).await {
            Ok(body) => body,
            // An error status says enough without its body.
            Err(_) if status >= 400 => Vec::new(),
            Err(fault) => return Err(fault.into()),
        };
        let head = Head {
            status,
            retry_after: text(&headers, RETRY_AFTER),
            date: text(&headers, DATE),
            windows: offers_windows_authentication(&headers),
        };
        classify(&head, &body, clock())
    };
    let late = || Err(Fault::new(Reason::PortalUnreachable, Cause::ResponseTimeout).into());
    let answer = timeout(TOTAL, attempt).await.unwrap_or_else(|_| late());
    if let Err(ExchangeError { fault: Fault { cause: Some(Cause::Expired), seen, .. }, .. }) = &answer {
        certificate_expires = seen.date;
    }
    Exchange { answer, certificate_expires }
}

/// When the certificate expires that the server of a response presented.
pub(super) fn expires(answer: &Response) -> Option<Timestamp> {
    not_after(answer.extensions().get::<TlsInfo>()?.peer_certificate()?)
}

async fn send(client: &PortalClient, portal: &str, post: RequestBuilder) -> Result<Response, Fault> {
    let again = post.try_clone();
    let answer = match (post.send().await, again) {
        // A server that rejects a client certificate with TLS 1.3 closes the connection after the handshake. When that is
        // sooner than the request, only another connection shows the alert.
        (Err(error), Some(again)) if was_not_sent(&error) => again.send().await,
        (answer, _) => answer,
    };
    let error = match answer {
        Ok(answer) => return Ok(answer),
        Err(error) => failed(&error, &client.proxies, portal),
    };
    let asked = match (&error, Route::new(client, portal)) {
        (Failed::Handshake, Some(route)) => route.asks_for_certificate().await,
        _ => None,
    };
    Err(error.resolve(asked))
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn offers_windows_authentication(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let scheme = |offer: &str| offer.split([' ', ',']).next().unwrap_or_default().to_ascii_lowercase();
    offers.map(scheme).any(|scheme| scheme == "negotiate" || scheme == "ntlm")
}

/// The body, up to a limit, which holds for what is decoded, too. Nothing but gzip is understood.
pub(super) async fn read(mut answer: Response, limit: usize) -> Result<Vec<u8>, Fault> {
    let packed =
        text(answer.headers(), CONTENT_ENCODING).is_some_and(|coding| coding.trim().eq_ignore_ascii_case("gzip"));
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) if error.is_timeout() => {
                return Err(Fault::new(Reason::PortalUnreachable, Cause::ResponseTimeout));
            }
            Ok(Some(_)) => return Err(malformed(Cause::TooLarge)),
            Err(_) => return Err(malformed(Cause::Truncated)),
        }
    }
    if packed { decoded(&body, limit) } else { Ok(body) }
}

fn malformed(cause: Cause) -> Fault {
    Fault::new(Reason::MalformedResponse, cause)
}

fn decoded(body: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let mut decoded = Vec::new();
    let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(body).take(more).read_to_end(&mut decoded);
    match read {
        Ok(_) if decoded.len() <= limit => Ok(decoded),
        Ok(_) => Err(malformed(Cause::TooLarge)),
        Err(_) => Err(malformed(Cause::Truncated)),
    }
}
