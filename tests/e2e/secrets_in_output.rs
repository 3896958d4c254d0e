//! Searches the output of all other tests for secrets, so it runs last.
//!
//! Each operator of a run logs at trace level into one folder, and what it wrote to the cluster still exists.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::refusals::{configuration, enforce};
use crate::support::canaries::clean;
use crate::support::fleet::poll_until;
use crate::support::policy::{denied_targets, put, remove};
use crate::support::tinyproxy::Tinyproxy;
use crate::support::tools::succeed;
use crate::support::{SECRET, TestEnv, WRONG_SECRET, failure_reason, is};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use testkit::api_proxy::{Call, InjectedFault};
use testkit::portal::{Answer, App, BODY_CANARY, Portal};
use testkit::webhook::Webhook;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_token_or_response_body_appears_in_logs_statuses_events_or_metrics() {
    let env = TestEnv::new().await;
    env.ready("good").await;
    env.portal.app("wrong", App { secret: SECRET.to_owned(), ..App::default() });
    let body = format!(r#"{{"error":{{"code":403,"message":"{BODY_CANARY}","error_description":"{BODY_CANARY}"}}}}"#);
    let answer = Answer { status: 200, body, ..Answer::default() };
    env.portal.app("loud", App { secret: SECRET.to_owned(), answer: Some(answer), ..App::default() });
    for (name, secret, reason) in [("wrong", WRONG_SECRET, "ClientSecretRejected"), ("loud", SECRET, "RequestRejected")]
    {
        env.credentials(&format!("{name}-oauth"), name, secret).await;
        env.apply(&env.manifest(name, &format!("{name}-oauth"))).await;
        env.wait(name, |r| is(r, "Stalled", "True", reason) && failure_reason(r) == Some(reason)).await;
    }
    let metrics = env.metrics_with(&["arcgis_credential_problem{", "outcome=\"Issued\""]).await;
    clean("/metrics", &metrics);
    let pid = env.operator.as_ref().unwrap().id().unwrap();
    for file in ["cmdline", "environ"] {
        clean(file, &String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap()));
    }
    let (mut logs, mut bytes) = (0, 0);
    for file in std::fs::read_dir(env.plane.dir().join("logs")).unwrap() {
        let path = file.unwrap().path();
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.contains("starting") || log.is_empty(), "{}: it is not an operator's log", path.display());
        clean(&path.display().to_string(), &log);
        logs += 1;
        bytes += log.len();
    }
    clean("the audit log", &std::fs::read_to_string(env.plane.audit_log()).unwrap());
    let all = ListParams::default();
    let resources = Api::<arcgis_credential_operator::api::ArcGisAppCredential>::all(env.client.clone());
    let statuses = resources.list(&all).await.unwrap().items;
    assert!(statuses.len() >= 3);
    clean("a status", &serde_json::to_string(&statuses.iter().map(|r| &r.status).collect::<Vec<_>>()).unwrap());
    let events = Api::<Event>::all(env.client.clone()).list(&all).await.unwrap();
    clean("an event", &serde_json::to_string(&events).unwrap());
    let maps = Api::<ConfigMap>::all(env.client.clone()).list(&all).await.unwrap();
    clean("a ConfigMap", &serde_json::to_string(&maps).unwrap());
    assert!(logs > 0 && bytes > 0, "no logs were found");
}

/// A policy whose message is a canary.
fn policy(env: &TestEnv) -> [Value; 2] {
    let mut objects = denied_targets(&env.namespace);
    objects[0]["spec"]["validations"][0] =
        json!({"expression": "object.metadata.name != 'policy-token'", "message": "canary-policy-text"});
    objects
}

/// A portal whose certificate has canaries for names.
async fn named_portal() -> Portal {
    let folder = tempfile::tempdir().unwrap();
    let subject = "/CN=canary-certificate-cn/O=canary-certificate-o";
    let names = "subjectAltName=DNS:canary-certificate-san.example.com,URI:https://canary-certificate-uri,email:canary-certificate@x";
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"]);
    succeed(openssl.args(["-subj", subject, "-addext", names, "-keyout", "k", "-out", "c"]).current_dir(&folder), "");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    Portal::presenting(&read("c"), &read("k")).await.unwrap()
}

/// Applies a resource with this portal and these credentials, and waits for its failure.
async fn fails(env: &TestEnv, name: &str, portal: Value, credentials: &str, reason: &str, cause: &str) {
    let mut manifest = env.manifest(name, credentials);
    manifest["spec"]["portal"] = portal;
    env.apply(&manifest).await;
    env.wait(name, |r| {
        let failure = r.status.as_ref().and_then(|status| status.failure.as_ref());
        failure.is_some_and(|f| f.reason.as_str() == reason && f.cause.as_deref() == Some(cause))
    })
    .await;
}

/// Searches what an environment has written for canaries, of whatever kind.
async fn search(env: &TestEnv) {
    let metrics = env.http_get("/metrics").await.unwrap();
    let resources = env.resources().list(&ListParams::default()).await.unwrap().items;
    let statuses = serde_json::to_string(&resources.iter().map(|r| &r.status).collect::<Vec<_>>()).unwrap();
    let events = Api::<Event>::namespaced(env.client.clone(), &env.namespace);
    let events = poll_until("an event of each resource", LIMIT, async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        (events.items.len() >= resources.len()).then_some(events)
    });
    let events = serde_json::to_string(&events.await).unwrap();
    let log = env.log();
    assert!(log.contains(r#""level":"WARN""#), "{log}");
    for (what, text) in [("metrics", &metrics), ("status", &statuses), ("event", &events), ("log", &log)] {
        let at = text.find("canary");
        assert!(at.is_none(), "{what}: {}", &text[at.unwrap_or_default().saturating_sub(200)..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_certificates_headers_policies_and_webhooks_appears_nowhere() {
    let (named, webhook) = (named_portal().await, Webhook::start("canary-webhook-text").await.unwrap());
    let env = TestEnv::with_flags(&["--allowed-portal", &named.url()]).await;
    for (app, status) in [("redirect", 302), ("windows", 401), ("limited", 429), ("down", 503)] {
        let text = "canary-header-text";
        let headers = [
            ("location", format!("https://{text}.example.com")),
            ("retry-after", text.to_owned()),
            ("www-authenticate", format!("Negotiate {text}")),
            ("date", text.to_owned()),
            ("server", text.to_owned()),
            (text, text.to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        let answer = Some(Answer { status, headers, body: BODY_CANARY.to_owned() });
        env.portal.app(app, App { secret: SECRET.to_owned(), answer, ..App::default() });
        env.credentials(app, app, SECRET).await;
    }
    let portal = json!({"url": env.portal.url()});
    let objects = policy(&env);
    for object in &objects {
        put(&env.client, object).await.unwrap();
    }
    let webhook = configuration(&env, "named", "webhook-token", &webhook.url(), webhook.ca());
    enforce(&env, &webhook, "webhook-token").await;
    enforce(&env, &objects[1], "policy-token").await;
    env.credentials("oauth", "app", SECRET).await;
    fails(&env, "certificate", json!({"url": named.url()}), "oauth", "PortalUntrusted", "CaAsServer").await;
    for (name, reason, cause) in [
        ("redirect", "MalformedResponse", "Redirect"),
        ("windows", "RequestRejected", "HttpStatus"),
        ("down", "PortalUnavailable", "HttpStatus"),
    ] {
        fails(&env, name, portal.clone(), name, reason, cause).await;
    }
    fails(&env, "policy", portal.clone(), "oauth", "TargetRefused", "Policy").await;
    fails(&env, "webhook", portal.clone(), "oauth", "TargetRefused", "Webhook").await;
    // The last one, because its pause is that of the host.
    fails(&env, "limited", portal, "limited", "RateLimited", "HttpStatus").await;
    for object in objects.iter().rev().chain([&webhook]) {
        remove(&env.client, object).await.unwrap();
    }
    search(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_password_of_a_proxy_appear_nowhere() {
    let Some(proxy) = Tinyproxy::start("BasicAuth user another-password").await else { return };
    let mut env = TestEnv::without_operator(&[]).await;
    env.set_variable("HTTPS_PROXY", &format!("http://canary-user:canary-password@127.0.0.1:{}", proxy.port));
    env.set_variable("NO_PROXY", "");
    env.start().await;
    env.credentials("oauth", "app", SECRET).await;
    let portal = json!({"url": env.portal.url()});
    fails(&env, "proxied", portal, "oauth", "PortalUnreachable", "ProxyRejected").await;
    let found = env.resources().get("proxied").await.unwrap().status.unwrap().failure.unwrap().message.unwrap();
    assert!(found.starts_with(&format!("The proxy 127.0.0.1:{} opens no connection to portal", proxy.port)), "{found}");
    search(&env).await;
}

/// API group, resource with its subresource, and verb.
type Right = [String; 3];

fn rights(rules: Vec<PolicyRule>) -> Vec<Right> {
    let mut found = Vec::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                found.extend(rule.verbs.iter().map(|verb| [group.clone(), resource.clone(), verb.clone()]));
            }
        }
    }
    found
}

/// Returns the permissions that the operators of this run have used, according to the audit log.
fn used(env: &TestEnv) -> BTreeSet<Right> {
    let log = std::fs::read_to_string(env.plane.audit_log()).unwrap();
    let account = "system:serviceaccount:arcgis-credential-operator:arcgis-credential-operator";
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["user"]["username"] == account)
        .map(|event| {
            let of = |field: &str| event["objectRef"][field].as_str().unwrap_or_default().to_owned();
            let resource = match of("subresource") {
                sub if sub.is_empty() => of("resource"),
                sub => format!("{}/{sub}", of("resource")),
            };
            [of("apiGroup"), resource, event["verb"].as_str().unwrap_or_default().to_owned()]
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_granted_permission_is_used_and_none_is_dangerous() {
    let name = "arcgis-credential-operator";
    let mut env = TestEnv::without_operator(&[]).await;
    env.ca_bundle("ca", env.portal.ca()).await;
    let proxied = env.add_api_proxy().await;
    // Lists that are not streamed are other calls.
    let streams = |call: &Call| call.streams("/secrets") || call.streams("/configmaps");
    env.api_proxy().inject(usize::MAX, InjectedFault::Status(422), streams);
    let replica = env.replica(&proxied, &["--lease-namespace".to_owned(), name.to_owned()]);
    env.credentials("oauth", "app", SECRET).await;
    let mut manifest = env.manifest("used", "oauth");
    manifest["spec"]["portal"]["caBundleRef"] = json!({"name": "ca"});
    env.apply(&manifest).await;
    env.wait_for("used", std::time::Duration::from_mins(1), |r| is(r, "Ready", "True", "TokenValid")).await;
    env.request_token("used", "now").await;
    env.wait("used", |r| r.status.as_ref().is_some_and(|s| s.last_handled_request.is_some())).await;
    drop(replica);
    let everywhere = Api::<ClusterRole>::all(env.client.clone()).get(name).await.unwrap().rules;
    let at_home = Api::<Role>::namespaced(env.client.clone(), name).get(name).await.unwrap().rules;
    let granted = rights(everywhere.into_iter().chain(at_home).flatten().collect());
    assert!(granted.len() > 10);
    let used = used(&env);
    let unused: Vec<&Right> = granted.iter().filter(|right| !used.contains(*right)).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}");
    for [group, resource, verb] in &granted {
        let never = ["*", "delete", "deletecollection", "escalate", "bind", "impersonate"];
        assert!(!never.contains(&verb.as_str()) && resource != "*" && group != "*", "{group} {resource} {verb}");
        assert!(!resource.contains("token"), "{resource}");
    }
}
