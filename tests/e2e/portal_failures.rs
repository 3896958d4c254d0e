//! Each reason of the failure table, with the conditions of the status table.

use crate::support::policy::{exhausted_quota, put_quota};
use crate::support::tools::{run, succeed};
use crate::support::{SECRET, TestEnv, condition, failure_reason, is};
use arcgis_credential_operator::api::{Failure, Reason, Recovery};
use serde_json::{Value, json};
use testkit::portal::{Answer, App, Certificate, Portal};

fn answer(status: u16, body: &str) -> App {
    App {
        secret: SECRET.to_owned(),
        answer: Some(Answer { status, body: body.to_owned(), ..Answer::default() }),
        ..App::default()
    }
}

/// Waits for the conditions of a resource without a token, depending on whether action is required.
async fn shows(env: &TestEnv, name: &str, reason: Reason) {
    let resource = env.wait(name, |r| is(r, "Ready", "False", reason.as_str())).await;
    assert_eq!(failure_reason(&resource), Some(reason.as_str()));
    let (stalled, reconciling) = (condition(&resource, "Stalled"), condition(&resource, "Reconciling"));
    match reason.recovery() {
        Recovery::ActionRequired => {
            assert!(stalled.is_some_and(|c| c.reason == reason.as_str()) && reconciling.is_none(), "{name}");
        }
        Recovery::Automatic => {
            assert!(reconciling.is_some_and(|c| c.reason == reason.as_str()) && stalled.is_none(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn portal_responses_become_reasons_regardless_of_their_status() {
    let env = TestEnv::new().await;
    let invalid_id = r#"{"error":{"code":400,"error":"invalid_client_id","error_description":"Invalid client_id"}}"#;
    let cases = [
        ("id", answer(200, invalid_id), Reason::ClientIdRejected),
        ("rejected", answer(200, r#"{"error":{"code":403,"message":"no"}}"#), Reason::RequestRejected),
        ("status-404", answer(404, "<html>"), Reason::RequestRejected),
        ("unreachable", App { close: true, ..App::default() }, Reason::PortalUnreachable),
        ("status-503", answer(503, "<html>"), Reason::PortalUnavailable),
        ("code-500", answer(200, r#"{"code":500,"status":"failure"}"#), Reason::PortalUnavailable),
        ("html", answer(200, "<html>login</html>"), Reason::MalformedResponse),
        ("redirect", answer(302, ""), Reason::MalformedResponse),
        ("shell", answer(200, r#"{"access_token":"a;echo${IFS}x","expires_in":60}"#), Reason::MalformedResponse),
    ];
    for (name, app, _) in &cases {
        env.portal.app(name, app.clone());
        env.credentials(&format!("{name}-oauth"), name, SECRET).await;
        env.apply(&env.manifest(name, &format!("{name}-oauth"))).await;
    }
    for (name, _, reason) in &cases {
        shows(&env, name, *reason).await;
    }
    env.credentials("secret-oauth", "app", crate::support::WRONG_SECRET).await;
    env.apply(&env.manifest("secret", "secret-oauth")).await;
    shows(&env, "secret", Reason::ClientSecretRejected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_pauses_every_resource_of_that_host() {
    let env = TestEnv::new().await;
    let limited = r#"{"error":{"code":429,"message":"Too many requests.","details":["Retry after 90 sec."]}}"#;
    env.portal.app("limited", answer(200, limited));
    env.credentials("limited-oauth", "limited", SECRET).await;
    env.apply(&env.manifest("limited", "limited-oauth")).await;
    shows(&env, "limited", Reason::RateLimited).await;
    env.credentials("next-oauth", "app", SECRET).await;
    env.apply(&env.manifest("next", "next-oauth")).await;
    shows(&env, "next", Reason::RateLimited).await;
    assert_eq!((env.portal.requests("limited"), env.portal.requests("app")), (1, 0));
    let status = env.resources().get("limited").await.unwrap().status.unwrap().failure.unwrap();
    let wait = status.next_attempt_time.unwrap().as_second() - status.last_attempt_time.unwrap().as_second();
    assert!((90..=115).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_check_prevents_the_request() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    env.credentials("blank", "app", " ").await;
    let base = |name: &str, credentials: &str| env.manifest(name, credentials);
    let mut elsewhere = base("elsewhere", "oauth");
    elsewhere["spec"]["portal"]["url"] = json!("https://elsewhere.example.com");
    let mut no_bundle = base("no-bundle", "oauth");
    no_bundle["spec"]["portal"]["caBundleRef"] = json!({"name": "missing"});
    let mut bad_bundle = base("bad-bundle", "oauth");
    bad_bundle["spec"]["portal"]["caBundleRef"] = json!({"kind": "Secret", "name": "blank", "key": "client_id"});
    let cases: [(&str, Value, Reason); 5] = [
        ("elsewhere", elsewhere, Reason::PortalNotAllowed),
        ("nothing", base("nothing", "missing"), Reason::CredentialsNotFound),
        ("empty", base("empty", "blank"), Reason::CredentialsIncomplete),
        ("no-bundle", no_bundle, Reason::CaBundleNotFound),
        ("bad-bundle", bad_bundle, Reason::CaBundleInvalid),
    ];
    for (_, manifest, _) in &cases {
        env.apply(manifest).await;
    }
    for (name, _, reason) in &cases {
        shows(&env, name, *reason).await;
    }
    assert_eq!(env.portal.requests("app"), 0);
    env.credentials("missing", "app", SECRET).await;
    env.wait("nothing", |r| is(r, "Ready", "True", "TokenValid")).await;
}

async fn failure_of(env: &TestEnv, name: &str) -> Failure {
    env.resources().get(name).await.unwrap().status.unwrap().failure.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_refuses_the_target_is_named() {
    let env = TestEnv::new().await;
    let policy = format!("{}-no-targets", env.namespace);
    let kind = |kind: &str| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": policy}});
    let mut rule = kind("ValidatingAdmissionPolicy");
    rule["spec"] = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"],
                             "operations": ["CREATE"]}]},
        "validations": [{"expression": "!object.metadata.name.endsWith('-token')", "message": "canary-policy-text"}],
    });
    let mut binding = kind("ValidatingAdmissionPolicyBinding");
    let only_here = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": env.namespace}}});
    binding["spec"] = json!({"policyName": policy, "validationActions": ["Deny"], "matchResources": only_here});
    let kubectl = || {
        let mut kubectl = std::process::Command::new(env.plane.tool("kubectl"));
        kubectl.env("KUBECONFIG", env.plane.kubeconfig());
        kubectl
    };
    for manifest in [&rule, &binding] {
        succeed(kubectl().args(["apply", "-f", "-"]), &manifest.to_string());
    }
    env.credentials("oauth", "app", SECRET).await;
    let refused = async {
        loop {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tried-token"}});
            let create = ["-n", &env.namespace, "create", "--dry-run=server", "-f", "-"];
            if !run(kubectl().args(create), &secret.to_string()).success {
                return;
            }
            // A policy is in force a moment after it was written, and nothing says so.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), refused).await.unwrap();
    env.apply(&env.manifest("ruled", "oauth")).await;
    shows(&env, "ruled", Reason::TargetRefused).await;
    let failure = failure_of(&env, "ruled").await;
    assert_eq!(failure.cause.as_deref(), Some("Policy"));
    let message = failure.message.unwrap();
    assert!(message.starts_with(&format!("The admission policy {policy} refuses Secret ruled-token.")), "{message}");
    assert!(!message.contains("canary") && !env.log().contains("canary-policy-text"));
    succeed(kubectl().args(["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", &policy]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exceeded_quota_is_reported_before_a_token_is_requested() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    put_quota(&env.client, &exhausted_quota(&env.namespace)).await.unwrap();
    env.apply(&env.manifest("full", "oauth")).await;
    shows(&env, "full", Reason::TargetRefused).await;
    let failure = failure_of(&env, "full").await;
    assert_eq!(failure.cause.as_deref(), Some("Quota"));
    assert!(failure.message.unwrap().starts_with("The quota none refuses Secret full-token."));
    assert_eq!(env.portal.requests("app"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_verify_are_untrusted() {
    for certificate in [Certificate::Expired, Certificate::WrongHost, Certificate::SelfSigned] {
        let portal = Portal::start("127.0.0.1:0".parse().unwrap(), certificate).await.unwrap();
        portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
        let env = TestEnv::with_flags(&["--allowed-portal", &portal.url()]).await;
        env.credentials("oauth", "app", SECRET).await;
        env.ca_bundle("ca", portal.ca()).await;
        let mut manifest = env.manifest("untrusted", "oauth");
        manifest["spec"]["portal"] = json!({"url": portal.url(), "caBundleRef": {"name": "ca"}});
        env.apply(&manifest).await;
        shows(&env, "untrusted", Reason::PortalUntrusted).await;
        assert_eq!(portal.journal().len(), 0);
    }
}
