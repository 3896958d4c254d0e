//! Each cause of a failed exchange, produced by the real thing: names, ports, networks, TLS of OpenSSL, proxies, responses.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::SECRET;
use crate::support::exchange::{client, request};
use crate::support::tinyproxy::Tinyproxy;
use arcgis_credential_operator::api::{Cause, Fault, Reason};
use arcgis_credential_operator::arcgis::Proxies;
use arcgis_credential_operator::core::OriginMatch;
use serde_json::Value;
use testkit::hostile::{Answer, HostileServer};
use testkit::pki::Authority;
use testkit::portal::{Answer as Response, App, Certificate, Portal, Protocol};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

async fn fault_with(url: &str, ca: Option<&str>, proxies: Proxies) -> Fault {
    testkit::init_crypto();
    request(&client(ca, None, OriginMatch::Exact, proxies), url).await.unwrap_err()
}

async fn fault(url: &str, ca: Option<&str>) -> Fault {
    fault_with(url, ca, Proxies::default()).await
}

fn of(fault: &Fault) -> (Reason, Option<Cause>) {
    (fault.reason, fault.cause)
}

const fn unreachable(cause: Cause) -> (Reason, Option<Cause>) {
    (Reason::PortalUnreachable, Some(cause))
}

/// A port on which nothing listens.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A server that answers what it gets with these bytes, without TLS.
async fn plain_server(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut got = [0; 4096];
                let _ = stream.read(&mut got).await;
                let _ = stream.write_all(answer).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_ports_that_do_not_exist_are_told_apart() {
    assert_eq!(of(&fault("https://no-such-host.invalid", None).await), unreachable(Cause::NameNotResolved));
    let port = closed_port().await;
    assert_eq!(of(&fault(&format!("https://127.0.0.1:{port}"), None).await), unreachable(Cause::ConnectionRefused));
    let address = fault_wildcard("https://localhost:1").await;
    assert_eq!(of(&address), (Reason::PortalNotAllowed, Some(Cause::AddressNotAllowed)));
}

async fn fault_wildcard(url: &str) -> Fault {
    testkit::init_crypto();
    request(&client(None, None, OriginMatch::Wildcard, Proxies::default()), url).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_tls_and_one_that_closes_are_told_apart() {
    let http = plain_server(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(of(&fault(&format!("https://127.0.0.1:{http}"), None).await), unreachable(Cause::NotTls));
    let silent = plain_server(b"").await;
    assert_eq!(of(&fault(&format!("https://127.0.0.1:{silent}"), None).await), unreachable(Cause::ConnectionClosed));
    let server = HostileServer::start(Answer::default()).await.unwrap();
    assert_eq!(of(&fault(&server.url(), Some(server.ca())).await), unreachable(Cause::ConnectionClosed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_does_not_answer_is_a_response_time_out() {
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    portal.app("app", App { hang: true, ..App::default() });
    let started = Instant::now();
    assert_eq!(of(&fault(&portal.url(), Some(portal.ca())).await), unreachable(Cause::ResponseTimeout));
    assert!(started.elapsed() < Duration::from_secs(17));
}

/// A real server of OpenSSL with a key of this kind and these options; returns what the operator says of it.
async fn openssl(key: &[&str], options: &[&str]) -> (Reason, Option<Cause>) {
    let folder = tempfile::tempdir().unwrap();
    let make = tokio::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "9",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .args(key)
        .current_dir(&folder)
        .output();
    let made = make.await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = tokio::process::Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-rev"])
        .args(options)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port: u16 = loop {
        let line = lines.next_line().await.unwrap().expect("the server starts");
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.rsplit(':').next().unwrap().parse().unwrap();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let ca = std::fs::read_to_string(folder.path().join("cert.pem")).unwrap();
    of(&fault(&format!("https://localhost:{port}"), Some(&ca)).await)
}

const P256: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_not_shared_is_told_from_a_client_certificate_that_is_missing() {
    let rejected = |cause| (Reason::RequestRejected, Some(cause));
    let old = ["-tls1_1", "-cipher", "ALL@SECLEVEL=0"];
    assert_eq!(openssl(P256, &old).await, unreachable(Cause::NotTls));
    let cbc = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"];
    assert_eq!(openssl(P256, &cbc).await, rejected(Cause::NoCommonTls));
    let p521 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    assert_eq!(openssl(&p521, &[]).await, rejected(Cause::NoCommonTls));
    for version in ["-tls1_2", "-tls1_3"] {
        let required = [version, "-Verify", "1", "-verify_return_error"];
        assert_eq!(openssl(P256, &required).await, rejected(Cause::ClientCertificateRequired), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_client_certificate_is_named_with_both_versions_of_tls() {
    let clients = Authority::new("clients").unwrap();
    for protocol in [Protocol::Tls12, Protocol::Tls13] {
        let portal = Portal::requiring(clients.pem(), protocol).await.unwrap();
        let found = fault(&portal.url(), Some(portal.ca())).await;
        assert_eq!(of(&found), (Reason::RequestRejected, Some(Cause::ClientCertificateRequired)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_and_one_that_is_gone_are_told_apart_and_named() {
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    let through = async |port: u16, user: &str| {
        let proxies = Proxies::parse(&format!("http://{user}127.0.0.1:{port}"), "").unwrap();
        fault_with(&portal.url(), Some(portal.ca()), proxies).await
    };
    let asks = plain_server(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
    let found = through(asks, "").await;
    assert_eq!((of(&found), found.seen.number), (unreachable(Cause::ProxyRejected), Some(407)));
    assert_eq!(found.seen.name.unwrap().as_str(), format!("127.0.0.1:{asks}"));
    let forbids = plain_server(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(of(&through(forbids, "").await), unreachable(Cause::ProxyRejected));
    let gone = closed_port().await;
    let found = through(gone, "user:canary-password@").await;
    assert_eq!(of(&found), unreachable(Cause::ProxyUnreachable));
    assert!(!format!("{found:?}").contains("canary"), "{found:?}");
    assert_eq!(portal.journal().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_proxy_that_asks_for_credentials_or_forbids_the_port_is_named() {
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    let Some(asks) = Tinyproxy::start("BasicAuth user canary-password").await else { return };
    let forbids = Tinyproxy::start("ConnectPort 1").await.unwrap();
    let through = async |proxy: &Tinyproxy, user: &str| {
        let proxies = Proxies::parse(&format!("http://{user}127.0.0.1:{}", proxy.port), "").unwrap();
        request(&client(Some(portal.ca()), None, OriginMatch::Exact, proxies), &portal.url()).await
    };
    for (proxy, user, number) in [(&asks, "", Some(407)), (&asks, "user:wrong@", None), (&forbids, "", None)] {
        let found = through(proxy, user).await.unwrap_err();
        assert_eq!((of(&found), found.seen.number), (unreachable(Cause::ProxyRejected), number), "{user}");
        assert_eq!(found.seen.name.clone().unwrap().as_str(), format!("127.0.0.1:{}", proxy.port));
        assert!(!format!("{found:?}").contains("canary"), "{found:?}");
    }
    assert_eq!(portal.journal().len(), 0);
    assert_eq!(through(&asks, "user:canary-password@").await, Ok(7200), "with the password it opens the connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_have_a_cause_and_their_text_goes_nowhere() {
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    let answer = async |status: u16, headers: &[(&str, &str)], body: &str| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = Some(Response { status, headers, body: body.to_owned() });
        portal.app("app", App { answer, ..App::default() });
        let found = fault(&portal.url(), Some(portal.ca())).await;
        assert!(!format!("{found:?}").contains("canary"), "{found:?}");
        found
    };
    for (status, body, reason, cause) in [
        (302, "canary", Reason::MalformedResponse, Cause::Redirect),
        (200, "<html>canary</html>", Reason::MalformedResponse, Cause::Html),
        (200, "canary", Reason::MalformedResponse, Cause::NotJson),
        (200, r#"{"token":"canary"}"#, Reason::MalformedResponse, Cause::NoToken),
        (200, r#"{"access_token":"a b","expires_in":1}"#, Reason::MalformedResponse, Cause::InvalidToken),
        (200, r#"{"access_token":"a"}"#, Reason::MalformedResponse, Cause::InvalidLifetime),
        (200, &"x".repeat(70_000), Reason::MalformedResponse, Cause::TooLarge),
        (403, "403.7 canary", Reason::RequestRejected, Cause::ClientCertificateRequired),
        (404, "canary", Reason::RequestRejected, Cause::HttpStatus),
        (200, r#"{"error":{"code":403,"message":"canary"}}"#, Reason::RequestRejected, Cause::ArcGisError),
        (503, "canary", Reason::PortalUnavailable, Cause::HttpStatus),
        (200, r#"{"error":{"code":500}}"#, Reason::PortalUnavailable, Cause::ArcGisError),
        (429, "", Reason::RateLimited, Cause::HttpStatus),
        (200, r#"{"error":{"code":429}}"#, Reason::RateLimited, Cause::ArcGisError),
    ] {
        assert_eq!(of(&answer(status, &[], body).await), (reason, Some(cause)), "{status}");
    }
    let windows = answer(401, &[("WWW-Authenticate", "Negotiate canary")], "<html>").await;
    assert!(windows.seen.windows && windows.seen.number == Some(401), "{windows:?}");
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\"".to_vec();
    let server = HostileServer::start(Answer { bytes: short, ..Answer::default() }).await.unwrap();
    let truncated = fault(&server.url(), Some(server.ca())).await;
    assert_eq!(of(&truncated), (Reason::MalformedResponse, Some(Cause::Truncated)));
}

/// A response that is compressed although it was asked not to be.
async fn compressed(body: &[u8]) -> Result<i64, Fault> {
    testkit::init_crypto();
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(body, flate2::Compression::best());
    std::io::Read::read_to_end(&mut encoder, &mut packed).unwrap();
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len());
    bytes.push_str("");
    let bytes = [bytes.into_bytes(), packed].concat();
    let server = HostileServer::start(Answer { bytes, ..Answer::default() }).await.unwrap();
    request(&client(Some(server.ca()), None, OriginMatch::Exact, Proxies::default()), &server.url()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_response_is_read_within_the_same_limit() {
    assert_eq!(compressed(br#"{"access_token":"a","expires_in":60}"#).await, Ok(60));
    let bomb = compressed(&vec![b' '; 10_000_000]).await.unwrap_err();
    assert_eq!(of(&bomb), (Reason::MalformedResponse, Some(Cause::TooLarge)));
}

/// A network without a route but to 192.0.2.0/24, where nothing answers, and which is asked for names.
const NETWORK: &str = "mount --bind resolv.conf /etc/resolv.conf && ip link set lo up && ip link add d type dummy \
    && ip address add 192.0.2.2/24 dev d && ip link set d up && exec \"$@\"";

/// Runs a probe in that network; `None` where none can be made.
fn probe_in_a_dead_network(portal: &str) -> Option<(Value, Duration)> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("id", "app"), ("secret", "secret"), ("resolv.conf", "nameserver 192.0.2.1\n")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let network = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--map-root-user", "sh", "-c", NETWORK, "sh"]).args(command);
        unshare.current_dir(&folder).env_remove("HTTPS_PROXY").output()
    };
    if !network(&["true"]).is_ok_and(|output| output.status.success()) {
        // Past the capture of libtest.
        let _ = std::io::stderr().write_all(b"NOT RUN: what needs a network namespace, which cannot be made\n");
        return None;
    }
    let started = Instant::now();
    let program = env!("CARGO_BIN_EXE_arcgis-credential-operator");
    let flags = ["probe", "--output=json", "--client-id-file=id", "--client-secret-file=secret", "--portal", portal];
    let output = network(&[&[program], &flags[..]].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    Some((serde_json::from_slice(&output.stdout).unwrap(), started.elapsed()))
}

#[test]
fn silent_dns_a_black_hole_and_a_missing_route_are_told_apart() {
    for (portal, cause, seconds) in [
        ("https://gis.example.com/portal", "NameNotResolved", 3),
        ("https://192.0.2.1/portal", "ConnectTimeout", 5),
        ("https://198.51.100.1/portal", "NoRoute", 0),
    ] {
        let Some((printed, took)) = probe_in_a_dead_network(portal) else { return };
        assert_eq!(printed["failure"]["reason"], "PortalUnreachable", "{printed}");
        assert_eq!(printed["failure"]["cause"], cause, "{printed}");
        assert!(took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 2), "{portal}: {took:?}");
    }
}
