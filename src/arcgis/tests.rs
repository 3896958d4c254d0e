//! The classification of every known response of a portal.

#![allow(clippy::unwrap_used, reason = "a test may")]

use jiff::Timestamp;

use super::{Head, classify};
use crate::api::Reason::{self, *};
use crate::api::{Cause, Fault};

mod client_certificates;

fn fault(status: u16, body: &str) -> Option<Fault> {
    let head = Head { status, ..Head::default() };
    classify(&head, body.as_bytes(), Timestamp::UNIX_EPOCH).err().map(|error| error.fault)
}

fn reason(status: u16, body: &str) -> Option<Reason> {
    fault(status, body).map(|fault| fault.reason)
}

fn granted(body: &str) -> Option<i64> {
    let head = Head { status: 200, ..Head::default() };
    classify(&head, body.as_bytes(), Timestamp::UNIX_EPOCH).ok().map(|grant| grant.lifetime_seconds)
}

#[test]
fn a_token_with_a_positive_lifetime_is_accepted_regardless_of_other_fields() {
    for (body, seconds) in [
        (r#"{"access_token":"0XfIPb32Mmwg..","expires_in":299}"#, 299),
        (r#"{"access_token":"AAPT_a-b.~+/==","expires_in":"1800","ssl":true,"token_type":"bearer"}"#, 1800),
        (r#"{"access_token":"a","expires_in":0.4}"#, 1),
        (r#"{"access_token":"a","expires_in":1e3}"#, 1000),
        ("\r\n\u{feff} {\"access_token\":\"a\",\"expires_in\":7199.9}\r\n", 7199),
    ] {
        assert_eq!(granted(body), Some(seconds), "{body}");
    }
}

const ERRORS: &[(u16, &str, Reason)] = &[
    (
        200,
        r#"{"error":{"code":400,"error":"invalid_client_id","error_description":"Invalid client_id","message":"Invalid client_id","details":[]}}"#,
        ClientIdRejected,
    ),
    (
        400,
        r#"{"error":{"code":999,"error":"invalid_request","error_description":"Invalid client_id","message":"invalid_request","details":[]}}"#,
        ClientIdRejected,
    ),
    (
        200,
        r#"{"error":{"code":400,"error":"invalid_request","error_description":"Invalid client_secret","message":"Invalid client_secret","details":[]}}"#,
        ClientSecretRejected,
    ),
    (200, r#"{"error":{"code":498,"error":"invalid_request","message":"refresh_token expired"}}"#, RequestRejected),
    (
        200,
        r#"{"error":{"code":400,"message":"Unable to generate token.","details":["Invalid username or password."]}}"#,
        RequestRejected,
    ),
    (
        200,
        r#"{"error":{"code":400,"messageCode":"GWM_0007","message":"Invalid request","details":[]}}"#,
        RequestRejected,
    ),
    (200, r#"{"error":"invalid_grant"}"#, RequestRejected),
    (200, r#"{"status":"error","messages":["Token Expired."],"code":498}"#, RequestRejected),
    (200, r#"{"error":{"code":504,"message":"Your request has timed out.","details":[]}}"#, PortalUnavailable),
    (200, r#"{"error":{"code":500.0}}"#, PortalUnavailable),
    (200, r#"{"error":{"code":"503"}}"#, PortalUnavailable),
    (
        200,
        r#"{"status":"error","messages":["Could not access any server machines. Please contact your system administrator."]}"#,
        PortalUnavailable,
    ),
    (200, "\r\n\r\n<html>Could not access any portal machine(s).</html>", PortalUnavailable),
    (
        200,
        r#"{"code":500,"message":"Error getting subscription info","status":"failure","details":null}"#,
        PortalUnavailable,
    ),
    (200, r#"{"code":200,"message":null,"status":"failure"}"#, MalformedResponse),
    (200, r#"{"error":{"code":403,"message":"Something new."}}"#, RequestRejected),
    (200, r#"{"error":{"code":499}}"#, RequestRejected),
    (200, r#"{"error":{"code":399}}"#, MalformedResponse),
    (200, r#"{"error":{"code":600}}"#, MalformedResponse),
    (200, r#"{"error":{"code":429,"message":"Too many requests."}}"#, RateLimited),
    (429, "<html>", RateLimited),
];

#[test]
fn errors_are_classified_by_text_then_status_then_code() {
    for (status, body, expected) in ERRORS {
        assert_eq!(reason(*status, body), Some(*expected), "{status} {body}");
    }
    for status in [401, 403, 404, 405] {
        assert_eq!(reason(status, "anything"), Some(RequestRejected));
    }
    for status in [408, 425, 443, 500, 502, 503, 504] {
        assert_eq!(reason(status, r#"{"access_token":"a","expires_in":60}"#), Some(PortalUnavailable));
    }
}

#[test]
fn a_response_is_read_up_to_64_kib() {
    let filled = |length: usize| {
        let start = r#"{"access_token":"a","expires_in":60,"x":""#;
        format!("{start}{}\"}}", "a".repeat(length - start.len() - 2))
    };
    assert_eq!(granted(&filled(64 * 1024)), Some(60));
    assert_eq!(granted(&filled(64 * 1024 + 1)), None);
}

#[test]
fn any_other_response_is_malformed() {
    let deep = "[".repeat(10_000);
    let long = format!(r#"{{"access_token":"{}","expires_in":60}}"#, "a".repeat(16_385));
    let large = format!(r#"{{"access_token":"a","expires_in":60,"x":"{}"}}"#, "a".repeat(64 * 1024));
    for body in [
        "",
        "null",
        "<html>Sign in</html>",
        r#"{"access_token":"a"#,
        r#"{"access_token":"a"}"#,
        r#"{"access_token":"","expires_in":60}"#,
        r#"{"access_token":"a b","expires_in":60}"#,
        r#"{"access_token":"a\nb","expires_in":60}"#,
        r#"{"access_token":"a;echo${IFS}x","expires_in":60}"#,
        r#"{"access_token":"=a","expires_in":60}"#,
        r#"{"access_token":"a","expires_in":0}"#,
        r#"{"access_token":"a","expires_in":-1}"#,
        r#"{"access_token":"a","expires_in":"NaN"}"#,
        r#"{"access_token":"a","expires_in":"inf"}"#,
        r#"{"access_token":"a","expires_in":315360001}"#,
        r#"{"access_token":"a","expires_in":true}"#,
        r#"{"token":"a","expires":1494541135122,"ssl":false}"#,
        "\u{1f}\u{8b}\0\0",
        &deep,
        &long,
        &large,
    ] {
        assert_eq!(reason(200, body), Some(MalformedResponse), "{}", &body[..body.len().min(60)]);
    }
    for status in [204, 301, 302, 307, 308, 304] {
        assert_eq!(reason(status, ""), Some(MalformedResponse), "{status}");
    }
}

#[test]
fn an_error_status_never_yields_a_token() {
    let token = r#"{"access_token":"a","expires_in":60}"#;
    for status in (100..200).chain(300..600) {
        assert!(reason(status, token).is_some(), "{status}");
    }
}

#[test]
fn the_wait_after_429_is_retry_after_limited_to_a_minute_through_an_hour() {
    let wait = |header: Option<&str>, body: &str| {
        let head = Head { status: 429, retry_after: header, ..Head::default() };
        classify(&head, body.as_bytes(), Timestamp::UNIX_EPOCH).err().and_then(|error| error.retry_after)
    };
    assert_eq!(wait(Some("120"), ""), Some(120));
    assert_eq!(wait(Some("5"), ""), Some(60));
    assert_eq!(wait(Some("99999999999999"), ""), Some(3600));
    assert_eq!(wait(Some("Thu, 01 Jan 1970 00:10:00 GMT"), ""), Some(600));
    assert_eq!(wait(Some("soon"), "Retry after 90 sec."), Some(90));
    assert_eq!(wait(None, "retry after a while; Retry after 90 sec"), Some(90));
    assert_eq!(wait(None, "retry after 90 minutes"), Some(60));
    assert_eq!(wait(None, "retry after seconds"), Some(60));
    assert_eq!(wait(None, "no hint"), Some(60));
}

#[test]
fn a_date_in_retry_after_counts_from_the_date_of_the_same_response() {
    let head = Head {
        status: 429,
        retry_after: Some("Thu, 01 Jan 2026 00:10:00 GMT"),
        date: Some("Thu, 01 Jan 2026 00:05:00 GMT"),
        windows: false,
    };
    let now = "2025-12-31T12:00:00Z".parse().unwrap();
    assert_eq!(classify(&head, b"", now).err().unwrap().retry_after, Some(300));
}

#[test]
fn the_cause_says_what_was_seen_and_the_number_with_it() {
    for (status, body, cause, number) in [
        (401, "", Cause::HttpStatus, Some(401)),
        (404, "<html>", Cause::HttpStatus, Some(404)),
        (403, "<h2>HTTP Error 403.7 - Forbidden</h2>", Cause::ClientCertificateRequired, None),
        (400, "No required SSL certificate was sent", Cause::ClientCertificateRequired, None),
        (200, r#"{"error":{"code":498}}"#, Cause::ArcGisError, Some(498)),
        (200, r#"{"error":"invalid_grant"}"#, Cause::ArcGisError, None),
        (200, r#"{"error":{"code":504}}"#, Cause::ArcGisError, Some(504)),
        (200, "<html>Could not access any portal machine(s).</html>", Cause::ArcGisError, None),
        (503, "", Cause::HttpStatus, Some(503)),
        (429, "", Cause::HttpStatus, Some(429)),
        (200, r#"{"error":{"code":429}}"#, Cause::ArcGisError, Some(429)),
        (302, "", Cause::Redirect, Some(302)),
        (200, "\r\n<html>Sign in</html>", Cause::Html, None),
        (418, "<html>", Cause::Html, None),
        (200, "Sign in", Cause::NotJson, None),
        (200, "", Cause::NotJson, None),
        (200, r#"{"access_token":"a"#, Cause::Truncated, None),
        (200, "null", Cause::NoToken, None),
        (200, r#"{"token":"a","expires":1494541135122}"#, Cause::NoToken, None),
        (200, r#"{"access_token":"a b","expires_in":60}"#, Cause::InvalidToken, None),
        (200, r#"{"access_token":"a","expires_in":-1}"#, Cause::InvalidLifetime, None),
        (200, r#"{"access_token":"a"}"#, Cause::InvalidLifetime, None),
        (200, &format!(r#"{{"x":"{}"}}"#, "a".repeat(64 * 1024)), Cause::TooLarge, None),
    ] {
        let fault = fault(status, body).unwrap();
        assert_eq!((fault.cause, fault.seen.number), (Some(cause), number), "{status} {}", &body[..body.len().min(60)]);
    }
    let windows = |status| {
        let head = Head { status, windows: true, ..Head::default() };
        classify(&head, b"", Timestamp::UNIX_EPOCH).err().unwrap().fault.seen.windows
    };
    assert!(windows(401) && !windows(403));
}

#[test]
fn a_page_that_asks_for_a_client_certificate_is_a_rejection() {
    for (body, expected) in [
        ("<html><center>No required SSL certificate was sent</center></html>", RequestRejected),
        ("<html><center>The SSL certificate error</center></html>", RequestRejected),
        ("<html><center>Bad Request</center></html>", MalformedResponse),
    ] {
        assert_eq!(reason(400, body), Some(expected), "{body}");
    }
}
