//! Portals behind PKI: client certificates.

use std::time::Duration;

use crate::support::fleet::handled;
use crate::support::tools::{run, succeed};
use crate::support::{SECRET, TestEnv, condition, failure_reason, is};
use arcgis_credential_operator::api::ArcGisAppCredential;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testkit::pki::Authority;
use testkit::portal::{App, Portal, Protocol, TOKEN_CANARY};

mod nginx;

/// Writes the Secret with a client certificate.
async fn write(env: &TestEnv, name: &str, kind: &str, data: Value) {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data});
    env.secrets().patch(name, &PatchParams::apply("user").force(), &Patch::Apply(secret)).await.unwrap();
}

async fn tls(env: &TestEnv, name: &str, certificate: &str, key: &str) {
    write(env, name, "kubernetes.io/tls", json!({"tls.crt": certificate, "tls.key": key})).await;
}

/// An environment, and the CA of the server in a Secret that resources name.
async fn env(url: &str, ca: &str) -> TestEnv {
    let env = TestEnv::with_flags(&["--allowed-portal", url]).await;
    env.credentials("oauth", "app", SECRET).await;
    write(&env, "roots", "Opaque", json!({"ca.crt": ca})).await;
    env
}

async fn portal(clients: &Authority, protocol: Protocol) -> Portal {
    let portal = Portal::requiring(clients.pem(), protocol).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    portal
}

/// A resource whose client certificate is in the Secret `<name>-client`.
fn manifest(env: &TestEnv, name: &str, url: &str) -> Value {
    let mut manifest = env.manifest(name, "oauth");
    manifest["spec"]["portal"] = json!({
        "url": url,
        "caBundleRef": {"kind": "Secret", "name": "roots"},
        "clientCertificateRef": {"name": format!("{name}-client")},
    });
    manifest
}

fn message(resource: &ArcGisAppCredential) -> String {
    condition(resource, "Ready").unwrap().message
}

fn valid(resource: &ArcGisAppCredential) -> bool {
    is(resource, "Ready", "True", "TokenValid") && failure_reason(resource).is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_requires_client_certificates_issues_tokens_with_tls_1_2_and_1_3() {
    for protocol in [Protocol::Tls12, Protocol::Tls13] {
        let clients = Authority::new("clients").unwrap();
        let portal = portal(&clients, protocol).await;
        let env = env(&portal.url(), portal.ca()).await;
        let issued = clients.issue("operator").unwrap();
        tls(&env, "pki-client", &issued.certificate, &issued.key).await;
        let mut manifest = manifest(&env, "pki", &portal.url());
        manifest["spec"]["verification"] = json!({});
        env.apply(&manifest).await;
        env.wait("pki", |r| valid(r) && is(r, "Verified", "True", "AppKnown")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_certificate_and_one_of_another_ca_are_rejected_until_the_secret_changes() {
    for protocol in [Protocol::Tls12, Protocol::Tls13] {
        let (clients, others) = (Authority::new("clients").unwrap(), Authority::new("others").unwrap());
        let portal = portal(&clients, protocol).await;
        let env = env(&portal.url(), portal.ca()).await;
        let mut without = manifest(&env, "without", &portal.url());
        without["spec"]["portal"].as_object_mut().unwrap().remove("clientCertificateRef");
        env.apply(&without).await;
        let wrong = others.issue("operator").unwrap();
        tls(&env, "wrong-client", &wrong.certificate, &wrong.key).await;
        env.apply(&manifest(&env, "wrong", &portal.url())).await;
        for name in ["without", "wrong"] {
            let rejected = env.wait(name, |r| is(r, "Stalled", "True", "RequestRejected")).await;
            assert!(message(&rejected).contains("spec.portal.clientCertificateRef"), "{}", message(&rejected));
        }
        assert_eq!(portal.journal().len(), 0);
        let good = clients.issue("operator").unwrap();
        tls(&env, "wrong-client", &good.certificate, &good.key).await;
        env.wait_for("wrong", Duration::from_secs(8), valid).await;
    }
}

/// What is wrong in a Secret, its type and data, and what the message says.
fn unusable(clients: &Authority) -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let (good, other) = (clients.issue("good").unwrap(), clients.issue("other").unwrap());
    let expired = clients.issue_expired("expired").unwrap();
    let pair = |certificate: &str, key: &str| json!({"tls.crt": certificate, "tls.key": key});
    let kind = "kubernetes.io/tls";
    vec![
        ("type", "Opaque", pair(&good.certificate, &good.key), "is not of type kubernetes.io/tls"),
        ("certificate", kind, pair("junk", &good.key), "cannot be read"),
        ("key", kind, pair(&good.certificate, "junk"), "cannot be read"),
        ("encrypted", kind, pair(&good.certificate, &encrypted(&good.key)), "is encrypted"),
        ("mismatch", kind, pair(&good.certificate, &other.key), "is not that of the first certificate"),
        ("expired", kind, pair(&expired.certificate, &expired.key), "expired on 2021-01-01T00:00:00Z. Renew it."),
    ]
}

/// The same key with a passphrase.
fn encrypted(key: &str) -> String {
    let args = ["pkcs8", "-topk8", "-v2", "aes256", "-passout", "pass:phrase"];
    let printed = succeed(std::process::Command::new("openssl").args(args), key);
    assert!(printed.contains("ENCRYPTED"), "{printed}");
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_client_certificate_is_reported_and_nothing_is_requested() {
    let clients = Authority::new("clients").unwrap();
    let portal = portal(&clients, Protocol::Any).await;
    let env = env(&portal.url(), portal.ca()).await;
    for (name, kind, data, says) in unusable(&clients) {
        write(&env, &format!("{name}-client"), kind, data).await;
        env.apply(&manifest(&env, name, &portal.url())).await;
        let found = env.wait(name, |r| is(r, "Stalled", "True", "ClientCertificateInvalid")).await;
        let message = message(&found);
        assert!(message.contains(&format!("Secret {name}-client")) && message.contains(says), "{message}");
        assert!(found.status.unwrap().failure.unwrap().next_attempt_time.is_none(), "only a change resolves it");
    }
    let good = clients.issue("good").unwrap();
    write(&env, "part-client", "Opaque", json!({"tls.crt": good.certificate})).await;
    for name in ["part", "absent"] {
        env.apply(&manifest(&env, name, &portal.url())).await;
        let found = env.wait(name, |r| is(r, "Reconciling", "True", "ClientCertificateNotFound")).await;
        assert!(message(&found).contains(&format!("Secret {name}-client")), "{}", message(&found));
        assert!(condition(&found, "Stalled").is_none());
    }
    assert_eq!(portal.journal().len(), 0);

    tls(&env, "absent-client", &good.certificate, &good.key).await;
    write(&env, "part-client", "Opaque", json!({"tls.crt": good.certificate, "tls.key": good.key})).await;
    env.wait("part", |r| is(r, "Stalled", "True", "ClientCertificateInvalid")).await;
    env.secrets().delete("part-client", &DeleteParams::default()).await.unwrap();
    tls(&env, "part-client", &good.certificate, &good.key).await;
    tls(&env, "expired-client", &good.certificate, &good.key).await;
    for name in ["absent", "part", "expired"] {
        env.wait_for(name, Duration::from_secs(8), valid).await;
    }
    for name in ["key", "mismatch"] {
        assert_eq!(failure_reason(&env.resources().get(name).await.unwrap()), Some("ClientCertificateInvalid"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_replaced_while_the_operator_is_down_is_found_at_the_start() {
    let clients = Authority::new("clients").unwrap();
    let portal = portal(&clients, Protocol::Any).await;
    let mut env = env(&portal.url(), portal.ca()).await;
    let expired = clients.issue_expired("expired").unwrap();
    for name in ["late", "same"] {
        tls(&env, &format!("{name}-client"), &expired.certificate, &expired.key).await;
        env.apply(&manifest(&env, name, &portal.url())).await;
        env.wait(name, |r| failure_reason(r) == Some("ClientCertificateInvalid")).await;
    }
    let before = env.resources().get("same").await.unwrap().metadata.resource_version;
    env.kill().await;
    let good = clients.issue("good").unwrap();
    tls(&env, "late-client", &good.certificate, &good.key).await;
    env.start().await;
    env.wait("late", valid).await;
    let after = env.resources().get("same").await.unwrap().metadata.resource_version;
    assert_eq!(after, before, "a restart writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_with_a_client_certificate_costs_one_more_read() {
    let clients = Authority::new("clients").unwrap();
    let portal = portal(&clients, Protocol::Any).await;
    let issued = clients.issue("operator").unwrap();
    let mut reads = Vec::new();
    for with in [true, false] {
        let env = env(&portal.url(), portal.ca()).await;
        tls(&env, "r-client", &issued.certificate, &issued.key).await;
        let mut manifest = manifest(&env, "r", &portal.url());
        if !with {
            // Of a portal that requires none.
            manifest["spec"]["portal"] =
                json!({"url": env.portal.url(), "caBundleRef": {"kind": "Secret", "name": "roots"}});
        }
        env.apply(&manifest).await;
        env.wait("r", valid).await;
        env.request_token("r", "now").await;
        env.wait("r", |r| valid(r) && handled(r, "now")).await;
        // The audit log is written after the answer.
        tokio::time::sleep(Duration::from_secs(3)).await;
        reads.push(env.calls().iter().filter(|(verb, ..)| verb == "get").count());
    }
    assert_eq!(reads[0], reads[1] + 2, "two exchanges: {reads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_private_key_appears_in_no_log_and_no_status() {
    let clients = Authority::new("clients").unwrap();
    let portal = portal(&clients, Protocol::Any).await;
    let env = env(&portal.url(), portal.ca()).await;
    let (good, other) = (clients.issue("good").unwrap(), clients.issue("other").unwrap());
    tls(&env, "shown-client", &good.certificate, &other.key).await;
    env.apply(&manifest(&env, "shown", &portal.url())).await;
    env.wait("shown", |r| failure_reason(r) == Some("ClientCertificateInvalid")).await;
    tls(&env, "shown-client", &good.certificate, &good.key).await;
    let resource = env.wait("shown", valid).await;
    let log = std::fs::read_to_string(env.plane.dir().join("logs").join(format!("{}.log", env.namespace))).unwrap();
    assert!(log.contains("token issued"));
    let metrics = env.http_get("/metrics").await.unwrap();
    let status = serde_json::to_string(&resource.status).unwrap();
    for key in [&good.key, &other.key] {
        for line in key.lines().filter(|line| !line.starts_with("-----")) {
            assert!(!log.contains(line) && !metrics.contains(line) && !status.contains(line));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_takes_a_client_certificate() {
    let clients = Authority::new("clients").unwrap();
    let portal = portal(&clients, Protocol::Tls12).await;
    let (good, expired) = (clients.issue("good").unwrap(), clients.issue_expired("expired").unwrap());
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("id", "app"),
        ("secret", SECRET),
        ("ca", portal.ca()),
        ("crt", &good.certificate),
        ("key", &good.key),
        ("old-crt", &expired.certificate),
        ("old-key", &expired.key),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let probe = async |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
        command.args(["probe", "--portal", &portal.url(), "--client-id-file", "id", "--client-secret-file", "secret"]);
        command.args(["--ca-file", "ca"]).args(more).current_dir(&folder);
        let printed = tokio::task::spawn_blocking(move || run(&mut command, "")).await.unwrap();
        assert!(!printed.out.contains(TOKEN_CANARY));
        printed.out + &printed.err
    };
    let with =
        async |certificate, key| probe(&["--client-certificate-file", certificate, "--client-key-file", key]).await;
    assert!(with("crt", "key").await.contains("Issued: a token for 2h"));
    let said = probe(&[]).await;
    assert!(said.contains("RequestRejected"), "{said}");
    let said = with("old-crt", "old-key").await;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("--client-key-file old-key: the certificate expired on 2021-01-01T00:00:00Z: renew it"),
        "{said}"
    );
    assert!(with("crt", "old-key").await.contains("do not match"));
    assert!(probe(&["--client-key-file", "key"]).await.contains("--client-certificate-file"));
}
