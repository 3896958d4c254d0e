//! Attacks by users who write resources or own Secrets, and by servers that answer as portals.

use std::time::{Duration, Instant};

use crate::support::{SECRET, TestEnv, failure_reason, is};
use arcgis_credential_operator::api::{CredentialsRef, Reason};
use arcgis_credential_operator::arcgis::{
    CaBundle, ExchangeError, Portals, Proxies, ServiceRanges, TokenRequest, exchange,
};
use arcgis_credential_operator::core::{Credentials, OriginMatch};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testkit::hostile::{Answer as Bytes, HostileServer};
use testkit::portal::{Answer, App, Certificate, Portal};

async fn portal() -> Portal {
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    portal
}

/// Requests a token from a server as the operator does.
async fn request_token(url: &str, ca: &str, origin_match: OriginMatch) -> Result<(), ExchangeError> {
    let keys =
        CredentialsRef { name: String::new(), client_id_key: "id".to_owned(), client_secret_key: "s".to_owned() };
    let value = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = [("id".to_owned(), value("app")), ("s".to_owned(), value(SECRET))].into();
    let credentials = Credentials::read(&data, &keys).unwrap();
    let bundle = CaBundle::parse(ca.as_bytes()).unwrap();
    let portals = Portals::new(Some(bundle), ServiceRanges::default(), Proxies::default()).unwrap();
    let request = TokenRequest { portal: url, credentials: &credentials, lifetime: None, referer: None };
    exchange(&portals.client(None, None, origin_match).unwrap(), &request, Timestamp::now).await.answer.map(drop)
}

/// Returns URLs that try to reach the server `bad` on `port` where only `good` is allowed.
fn crafted_urls(good: &str, bad: &str, port: u16) -> Vec<String> {
    vec![
        format!("https://{bad}"),
        format!("https://{good}@{bad}"),
        format!("https://user:{good}@{bad}"),
        format!("https://{good}%40{bad}"),
        format!("https://{good}\\@{bad}"),
        format!("https://{bad}\\{good}"),
        format!("https://{bad}#@{good}"),
        format!("https://{bad}?@{good}"),
        format!("https://{bad};@{good}"),
        format!("https://{bad}/{good}"),
        format!("https://{bad}/https://{good}"),
        format!("https://{good}.{bad}"),
        format!("https://{good}\t.{bad}"),
        format!("https://{good}\n{bad}"),
        format!("https://{good}\r\nHost: {bad}"),
        format!("https://{good},{bad}"),
        format!("https:/{bad}"),
        format!("https:///{bad}"),
        format!("https:{bad}"),
        format!("//{bad}"),
        format!("http://{bad}"),
        format!("HTTPS://{bad}"),
        format!("https://127.0.0.1:{port}"),
        format!("https://[::ffff:127.0.0.1]:{port}"),
        format!("https://[::1]:{port}"),
        format!("https://[::1%25lo]:{port}"),
        format!("https://2130706433:{port}"),
        format!("https://0x7f000001:{port}"),
        format!("https://0177.0.0.1:{port}"),
        format!("https://127.1:{port}"),
        format!("https://localhost.:{port}"),
        format!("https://localhost%2e:{port}"),
        format!("https://LOCALHOST:{port}"),
        format!("https://ⓛocalhost:{port}"),
        format!("https://locaIhost:{port}"),
        format!("https://lоcalhost:{port}"),
        format!("https://localhost:+{port}"),
        format!("https://localhost:0{port}"),
        format!("https://localhost: {port}"),
        "https://169.254.169.254/latest".to_owned(),
        "https://kubernetes.default.svc".to_owned(),
        "https://*.localhost".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_crafted_url_reaches_a_server_that_is_not_allowed() {
    let env = TestEnv::new().await;
    let victim = portal().await;
    let (good, port) = (env.portal.url().replace("https://", ""), victim.address().port());
    let bad = format!("localhost:{port}");
    env.credentials("oauth", "app", SECRET).await;
    let urls = crafted_urls(&good, &bad, port);
    for (n, url) in urls.iter().enumerate() {
        let name = format!("trick-{n}");
        let mut manifest = env.manifest(&name, "oauth");
        manifest["spec"]["portal"]["url"] = json!(url);
        let apply = PatchParams::apply("attacker");
        if env.resources().patch(&name, &apply, &Patch::Apply(&manifest)).await.is_ok() {
            let failed_with = |reason| {
                move |r: &arcgis_credential_operator::api::ArcGisAppCredential| failure_reason(r) == Some(reason)
            };
            let rejected = |r: &_| failed_with("PortalNotAllowed")(r) || failed_with("SpecInvalid")(r);
            env.wait(&name, rejected).await;
        }
    }
    assert_eq!(victim.journal().len(), 0, "the victim received nothing");
    assert_eq!(env.portal.journal().len(), 0, "the allowed portal received nothing either");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crafted_path_stays_on_its_host() {
    let env = TestEnv::new().await;
    let victim = portal().await;
    env.credentials("oauth", "app", SECRET).await;
    let base = env.portal.url();
    let host = victim.url().replace("https:", "");
    let paths = [
        "/../../..".to_owned(),
        "/%2e%2e/%2e%2e".to_owned(),
        host.clone(),
        format!("/{host}"),
        "/%0d%0aX:%20y".to_owned(),
    ];
    for (n, path) in paths.iter().enumerate() {
        let mut manifest = env.manifest(&format!("path-{n}"), "oauth");
        manifest["spec"]["portal"]["url"] = json!(format!("{base}{path}"));
        let apply = PatchParams::apply("attacker");
        if env.resources().patch(&format!("path-{n}"), &apply, &Patch::Apply(&manifest)).await.is_ok() {
            env.wait(&format!("path-{n}"), |r| r.status.as_ref().is_some_and(|s| !s.conditions.is_empty())).await;
        }
    }
    assert_eq!(victim.journal().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_is_not_followed() {
    let (from, to) = (portal().await, portal().await);
    for status in [300, 301, 302, 303, 307, 308] {
        let location = format!("{}/sharing/rest/oauth2/token", to.url());
        let answer = Answer { status, headers: [("Location".to_owned(), location)].into(), body: String::new() };
        from.app("app", App { secret: SECRET.to_owned(), answer: Some(answer), ..App::default() });
        let error = request_token(&from.url(), from.ca(), OriginMatch::Exact).await.unwrap_err();
        assert_eq!(error.fault.reason, Reason::MalformedResponse, "{status}");
    }
    assert_eq!((from.journal().len(), to.journal().len()), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_allowed_by_a_wildcard_does_not_reach_loopback() {
    let portal = portal().await;
    let error = request_token(&portal.url(), portal.ca(), OriginMatch::Wildcard).await.unwrap_err();
    assert_eq!(error.fault.reason, Reason::PortalNotAllowed);
    assert_eq!(portal.journal().len(), 0);
    assert!(
        request_token(&portal.url(), portal.ca(), OriginMatch::Exact).await.is_ok(),
        "an exact origin may use loopback"
    );
    assert_eq!(portal.journal().len(), 1);
}

fn invalid_responses() -> Vec<(&'static str, Bytes, Reason)> {
    let json = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        (head + body).into_bytes()
    };
    let plain = |bytes: Vec<u8>| Bytes { bytes, ..Bytes::default() };
    let endless =
        |bytes: &[u8], endless: &[u8]| Bytes { bytes: bytes.to_vec(), endless: endless.to_vec(), pause: None };
    let token = r#"{"access_token":"t","expires_in":60}"#;
    let large = format!(r#"{{"access_token":"t","expires_in":60,"x":"{}"}}"#, "x".repeat(70_000));
    let mut bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n".to_vec();
    bomb.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0, 0]);
    let malformed = Reason::MalformedResponse;
    vec![
        ("not HTTP", plain(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), malformed),
        ("binary", plain(vec![0; 512]), malformed),
        ("nothing", plain(Vec::new()), Reason::PortalUnreachable),
        ("half a head", plain(b"HTTP/1.1 200 OK\r\nContent-".to_vec()), Reason::PortalUnreachable),
        ("half a body", plain(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"access".to_vec()), malformed),
        ("half an error", plain(b"HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\n{".to_vec()), Reason::PortalUnavailable),
        ("an endless head", endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), malformed),
        ("an endless header", endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"aaaaaaaaaaaaaaaa"), malformed),
        ("an endless body", endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]), malformed),
        (
            "endless chunks",
            endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\n    \r\n"),
            malformed,
        ),
        ("a wrong length", plain(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n".to_vec()), malformed),
        ("too much", plain(json(&large)), malformed),
        ("gzip", plain(bomb), malformed),
        ("deep", plain(json(&"[".repeat(60_000))), malformed),
        ("deep objects", plain(json(&r#"{"error":"#.repeat(7_000))), malformed),
        ("a key twice", plain(json(r#"{"access_token":"t","access_token":"a;b","expires_in":60}"#)), malformed),
        ("a NUL", plain(json("{\"access_token\":\"t\\u0000\",\"expires_in\":60}")), malformed),
        ("a NUL before", plain(json(&format!("\0{token}"))), malformed),
        ("a header's end", plain(json("{\"access_token\":\"t\\r\\nX: y\",\"expires_in\":60}")), malformed),
        ("no UTF-8", plain(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec()), malformed),
        (
            "a token with an error",
            plain(json(r#"{"access_token":"t","expires_in":60,"error":{"code":500}}"#)),
            Reason::PortalUnavailable,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_response_becomes_a_reason_within_time_and_size_limits() {
    for (what, answer, expected) in invalid_responses() {
        let server = HostileServer::start(answer).await.unwrap();
        let started = Instant::now();
        let error = request_token(&server.url(), server.ca(), OriginMatch::Exact).await.unwrap_err();
        assert_eq!(error.fault.reason, expected, "{what}");
        assert!(started.elapsed() < Duration::from_secs(5), "{what}: {:?}", started.elapsed());
        assert!(server.sent() < 8 * 1024 * 1024, "{what}: {} bytes were read", server.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_response_times_out_after_15_s() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
    let drip = [head, vec![b' '; 1000]].concat();
    let server =
        HostileServer::start(Bytes { bytes: drip, pause: Some(Duration::from_millis(200)), endless: Vec::new() })
            .await
            .unwrap();
    let started = Instant::now();
    let error = request_token(&server.url(), server.ca(), OriginMatch::Exact).await.unwrap_err();
    assert_eq!(error.fault.reason, Reason::PortalUnreachable);
    assert!((14..=16).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[test]
fn a_hostile_ca_bundle_is_rejected_quickly() {
    let certificate = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let bundles = [
        String::new(),
        "x".repeat(1024 * 1024),
        "-----BEGIN CERTIFICATE-----\n".repeat(30_000),
        certificate("not base64 !!!"),
        certificate("MIIB"),
        certificate("MIL/////////"),
        certificate(&"MIIBIjAN".repeat(100_000)),
        certificate("AAAA").repeat(10_000),
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n".to_owned(),
        "-----BEGIN CERTIFICATE-----\n\0\0\0\n-----END CERTIFICATE-----\n".to_owned(),
    ];
    for (n, bundle) in bundles.iter().enumerate() {
        let started = Instant::now();
        assert!(CaBundle::parse(bundle.as_bytes()).is_err(), "{n}");
        assert!(started.elapsed() < Duration::from_secs(2), "{n}: {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_secrets_affect_only_their_own_resource() {
    let env = TestEnv::new().await;
    let huge = "x".repeat(900 * 1024);
    let cases = [
        ("huge", json!({"client_id": "app", "client_secret": huge})),
        ("binary", json!({"client_id": "app", "client_secret": "a\u{0}b"})),
        ("lines", json!({"client_id": "app", "client_secret": "a\nb"})),
        ("wide", json!({"client_id": "app", "client_secret": "geheim\u{200b}"})),
        ("form", json!({"client_id": "app&apiToken=1", "client_secret": SECRET})),
    ];
    for (name, data) in cases {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let apply = PatchParams::apply("attacker").force();
        env.secrets().patch(name, &apply, &Patch::Apply(secret)).await.unwrap();
        env.apply(&env.manifest(&format!("{name}-r"), name)).await;
    }
    for name in ["huge", "binary", "lines", "wide"] {
        env.wait(&format!("{name}-r"), |r| is(r, "Stalled", "True", "CredentialsIncomplete")).await;
    }
    // A value that looks like additional form fields stays one value.
    env.wait("form-r", |r| is(r, "Stalled", "True", "ClientIdRejected")).await;
    let entry = env.portal.journal().pop().unwrap();
    let names: Vec<&str> = entry.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["f", "client_id", "client_secret", "grant_type"]);
    env.ready("next").await;
}
