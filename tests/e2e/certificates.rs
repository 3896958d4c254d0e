//! The expiry of certificates in the metrics, and what a clock that is wrong does to them.

use std::path::Path;
use std::time::Duration;

use crate::support::fleet::{handled, poll_until};
use crate::support::packages::install;
use crate::support::tools::succeed;
use crate::support::{SECRET, TestEnv, condition, failure_reason, is};
use arcgis_credential_operator::api::ArcGisAppCredential;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testkit::pki::{Authority, Issued};
use testkit::portal::{App, Certificate, Portal};

const LIMIT: Duration = Duration::from_secs(20);

fn openssl(folder: &Path, args: &[&str]) -> String {
    succeed(std::process::Command::new("openssl").args(args).current_dir(folder), "")
}

/// A self-signed certificate for localhost, as OpenSSL makes it, with so many days to live.
fn made(days: &str) -> Issued {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout k -out c -days";
    let arguments: Vec<&str> = arguments.split(' ').chain([days]).collect();
    openssl(folder.path(), &arguments);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    Issued { certificate: read("c"), key: read("k") }
}

/// The end of a certificate in seconds, as OpenSSL reads it.
fn end(certificate: &str) -> i64 {
    let printed = succeed(std::process::Command::new("openssl").args(["x509", "-noout", "-enddate"]), certificate);
    let date = printed.trim().strip_prefix("notAfter=").unwrap().strip_suffix(" GMT").unwrap();
    let date = date.split_whitespace().collect::<Vec<_>>().join(" ");
    jiff::fmt::strtime::parse("%b %d %H:%M:%S %Y", date)
        .unwrap()
        .to_datetime()
        .unwrap()
        .in_tz("UTC")
        .unwrap()
        .timestamp()
        .as_second()
}

async fn portal(issued: &Issued) -> Portal {
    let portal = Portal::presenting(&issued.certificate, &issued.key).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    portal
}

async fn client_certificate(env: &TestEnv, issued: &Issued) {
    let data = json!({"tls.crt": issued.certificate, "tls.key": issued.key});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client"}, "type": "kubernetes.io/tls",
                        "stringData": data});
    env.secrets().patch("client", &PatchParams::apply("user").force(), &Patch::Apply(secret)).await.unwrap();
}

/// The lines of the metrics about the expiry of certificates, without what all begin with.
async fn expiries(env: &TestEnv) -> Vec<String> {
    let metrics = env.http_get("/metrics").await.unwrap();
    let lines = metrics.lines().filter(|line| !line.starts_with('#') && line.contains("_certificate_expiry_"));
    let prefix = "arcgis_credential_";
    lines.map(|line| line.trim_start_matches(prefix).replace("_certificate_expiry_timestamp_seconds", "")).collect()
}

async fn shows(env: &TestEnv, expected: &[String]) {
    poll_until(&format!("{expected:?}"), LIMIT, async || (expiries(env).await == expected).then_some(())).await;
}

fn of_portal(portal: &Portal, second: i64) -> String {
    format!("portal{{portal=\"localhost:{}\"}} {second}", portal.address().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_expiry_of_certificates_is_shown_until_nothing_uses_them() {
    let (server, other, first, second) = (made("9"), made("30"), made("20"), made("40"));
    let (portal, moved_to) = (portal(&server).await, portal(&other).await);
    let env = TestEnv::with_flags(&["--allowed-portal", &portal.url(), "--allowed-portal", &moved_to.url()]).await;
    env.credentials("oauth", "app", SECRET).await;
    env.ca_bundle("ca", &format!("{}{}", server.certificate, other.certificate)).await;
    client_certificate(&env, &first).await;
    let mut manifest = env.manifest("a", "oauth");
    manifest["spec"]["portal"] = json!({
        "url": portal.url(), "caBundleRef": {"name": "ca"}, "clientCertificateRef": {"name": "client"},
    });
    env.apply(&manifest).await;
    env.wait("a", |r| is(r, "Ready", "True", "TokenValid")).await;
    let of_client =
        |issued: &Issued| format!("client{{namespace=\"{}\",name=\"a\"}} {}", env.namespace, end(&issued.certificate));
    let of_server = of_portal(&portal, end(&server.certificate));
    shows(&env, &[of_client(&first), of_server.clone()]).await;
    client_certificate(&env, &second).await;
    env.request_token("a", "renewed").await;
    shows(&env, &[of_client(&second), of_server.clone()]).await;
    // The client certificate is not named any more, then the portal.
    env.change("a", json!({"spec": {"portal": {"clientCertificateRef": null}}})).await;
    shows(&env, &[of_server]).await;
    env.change("a", json!({"spec": {"portal": {"url": moved_to.url()}}})).await;
    shows(&env, &[of_portal(&moved_to, end(&other.certificate))]).await;
    env.delete("a").await;
    shows(&env, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_token_shows_the_expiry_of_the_portal_after_a_restart() {
    let server = made("9");
    let portal = portal(&server).await;
    let mut env = TestEnv::with_flags(&["--allowed-portal", &portal.url()]).await;
    env.credentials("oauth", "app", SECRET).await;
    env.ca_bundle("ca", &server.certificate).await;
    let mut manifest = env.manifest("a", "oauth");
    manifest["spec"]["portal"] = json!({"url": portal.url(), "caBundleRef": {"name": "ca"}});
    env.apply(&manifest).await;
    env.wait("a", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.kill().await;
    env.start().await;
    shows(&env, &[]).await;
    env.change("a", json!({"spec": {"verification": {}}})).await;
    env.wait("a", |r| is(r, "Verified", "True", "AppKnown")).await;
    shows(&env, &[of_portal(&portal, end(&server.certificate))]).await;
    assert_eq!(portal.requests("app"), 1, "the restart requests nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_shown_with_its_end_and_the_resources_in_trouble_are_counted() {
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Expired).await.unwrap();
    let env = TestEnv::with_flags(&["--allowed-portal", &portal.url()]).await;
    env.credentials("oauth", "app", SECRET).await;
    env.ca_bundle("ca", portal.ca()).await;
    for name in ["a", "b"] {
        let mut manifest = env.manifest(name, "oauth");
        manifest["spec"]["portal"] = json!({"url": portal.url(), "caBundleRef": {"name": "ca"}});
        env.apply(&manifest).await;
        let found = env.wait(name, |r| is(r, "Stalled", "True", "PortalUntrusted")).await;
        let failure = found.status.unwrap().failure.unwrap();
        assert_eq!(failure.cause.as_deref(), Some("Expired"));
        let message = failure.message.unwrap();
        assert!(message.contains("expired on 2021-01-01T00:00:00Z") && !message.contains("clock"), "{message}");
    }
    shows(&env, &[of_portal(&portal, 1_609_459_200)]).await;
    let problems = |count: &str| {
        let labels = format!("portal=\"localhost:{}\",reason=\"PortalUntrusted\"", portal.address().port());
        format!("arcgis_credential_portal_problems{{{labels}}} {count}")
    };
    env.metrics_with(&[&problems("2")]).await;
    env.change("a", json!({"spec": {"suspend": true}})).await;
    // A suspended resource is not counted.
    env.metrics_with(&[&problems("1")]).await;
}

fn message(resource: &ArcGisAppCredential) -> String {
    condition(resource, "Ready").unwrap().message
}

/// An operator whose clock is two hours ahead.
async fn ahead(library: &Path, portals: &[&Portal]) -> TestEnv {
    let urls: Vec<String> = portals.iter().map(|portal| portal.url()).collect();
    let flags: Vec<&str> = urls.iter().flat_map(|url| ["--allowed-portal", url]).collect();
    let mut env = TestEnv::without_operator(&flags).await;
    env.set_variable("LD_PRELOAD", library.to_str().unwrap());
    env.set_variable("FAKETIME", "+2h");
    env.set_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    env.start().await;
    env.credentials("oauth", "app", SECRET).await;
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_is_named_where_a_certificate_or_a_token_seems_to_have_ended() {
    let Some(library) = install(&["faketime"]).await else { return };
    let hour = u64::try_from(Timestamp::now().as_second()).unwrap() + 3600;
    let authority = Authority::new("servers").unwrap();
    let seems_expired = portal(&authority.issue_server_until("localhost", hour).unwrap()).await;
    let good = portal(&authority.issue_server("localhost").unwrap()).await;
    let env = ahead(&library, &[&seems_expired, &good]).await;
    env.ca_bundle("ca", authority.pem()).await;
    let mut manifest = env.manifest("server", "oauth");
    manifest["spec"]["portal"] = json!({"url": seems_expired.url(), "caBundleRef": {"name": "ca"}});
    env.apply(&manifest).await;
    let found = env.wait("server", |r| is(r, "Stalled", "True", "PortalUntrusted")).await;
    let says = "The clock of the operator's node differs from that of the API server by more than 5 minutes";
    assert!(message(&found).contains(says), "{}", message(&found));
    assert_eq!(seems_expired.journal().len(), 0);
    // The same message after another attempt.
    env.request_token("server", "again").await;
    let again = env.wait("server", |r| handled(r, "again")).await;
    assert_eq!(message(&again), message(&found));

    client_certificate(&env, &authority.issue_server_until("client", hour).unwrap()).await;
    let mut manifest = env.manifest("client", "oauth");
    manifest["spec"]["portal"] = json!({
        "url": good.url(), "caBundleRef": {"name": "ca"}, "clientCertificateRef": {"name": "client"},
    });
    env.apply(&manifest).await;
    let found = env.wait("client", |r| is(r, "Stalled", "True", "ClientCertificateInvalid")).await;
    assert!(message(&found).contains(says), "{}", message(&found));

    good.app("rejected", App { secret: SECRET.to_owned(), reject_tokens: true, ..App::default() });
    env.credentials("rejected", "rejected", SECRET).await;
    let mut manifest = env.manifest("token", "rejected");
    manifest["spec"]["portal"] = json!({"url": good.url(), "caBundleRef": {"name": "ca"}});
    manifest["spec"]["verification"] = json!({});
    env.apply(&manifest).await;
    let found = env.wait("token", |r| is(r, "Ready", "False", "TokenRejected")).await;
    let says = "The clocks of the portal and of the operator's node differ by more than 5 minutes";
    assert!(message(&found).contains(says), "{}", message(&found));
    assert!(condition(&found, "Verified").unwrap().message.contains(says));
    assert_eq!(failure_reason(&found), None);
}
