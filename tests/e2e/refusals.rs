//! What refuses a read or a write in a cluster, produced by the real thing: RBAC and admission webhooks. Policies and quotas
//! are in `portal_failures`, owner references and namespaces that are being deleted in `target_ownership`.

use std::time::Duration;

use crate::support::fleet::{Replica, poll_until};
use crate::support::policy::{put, remove};
use crate::support::{SECRET, TestEnv, is};
use arcgis_credential_operator::api::{ArcGisAppCredential, Failure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testkit::control_plane::client;
use testkit::webhook::Webhook;

const LIMIT: Duration = Duration::from_secs(30);
/// A retry after 1 m, with jitter.
const RETRIED: Duration = Duration::from_secs(90);

/// What all rights of the operator's account here begin with.
fn rules() -> Vec<Value> {
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    vec![
        rule("credentials.arcgis.dev", "arcgisappcredentials", &["list", "watch"]),
        rule("credentials.arcgis.dev", "arcgisappcredentials/status", &["patch"]),
        rule("", "secrets", &["list", "watch", "patch"]),
        rule("", "configmaps", &["list", "watch"]),
        rule("events.k8s.io", "events", &["create"]),
    ]
}

/// Starts an operator whose account has these rights beside those, in this namespace alone.
async fn operator(env: &TestEnv, more: &[Value]) -> Replica {
    let (name, namespace) = ("limited", &env.namespace);
    let accounts = Api::<ServiceAccount>::namespaced(env.client.clone(), namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let version = "rbac.authorization.k8s.io/v1";
    let rules: Vec<Value> = rules().into_iter().chain(more.iter().cloned()).collect();
    let metadata = json!({"name": name, "namespace": namespace});
    put(&env.client, &json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules}))
        .await
        .unwrap();
    let binding = json!({
        "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    });
    put(&env.client, &binding).await.unwrap();
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    let kubeconfig = env.plane.kubeconfig_for(&format!("{namespace}-limited"), &token.status.unwrap().token).unwrap();
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(client(&kubeconfig).await.unwrap(), namespace);
    let granted = async || secrets.list(&kube::api::ListParams::default()).await.is_ok().then_some(());
    poll_until("the rights are granted", LIMIT, granted).await;
    env.replica(&kubeconfig, &["--leader-elect=false".to_owned()])
}

fn may(verb: &str, resource: &str, names: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "verbs": [verb], "resourceNames": names})
}

fn failure(resource: &ArcGisAppCredential) -> Option<&Failure> {
    resource.status.as_ref()?.failure.as_ref()
}

/// Waits for a failure; returns its message.
async fn fails(env: &TestEnv, name: &str, reason: &str, cause: &str) -> String {
    let found = env
        .wait(name, |r| failure(r).is_some_and(|f| f.reason.as_str() == reason && f.cause.as_deref() == Some(cause)));
    failure(&found.await).unwrap().message.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rbac_does_not_grant_is_named_with_the_verb_and_the_object() {
    let env = TestEnv::without_operator(&[]).await;
    let create = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]});
    let _operator = operator(&env, &[may("get", "secrets", &["oauth"]), create]).await;
    env.credentials("oauth", "app", SECRET).await;
    env.credentials("both", "app", SECRET).await;
    env.ca_bundle("both", env.portal.ca()).await;
    // A Secret and a ConfigMap with one name are told apart.
    for (name, credentials, source) in [("sources", "both", "Secret both"), ("bundle", "oauth", "ConfigMap both")] {
        let mut manifest = env.manifest(name, credentials);
        manifest["spec"]["portal"]["caBundleRef"] = json!({"kind": "ConfigMap", "name": "both"});
        env.apply(&manifest).await;
        let message = fails(&env, name, "SourceRefused", "Permission").await;
        assert!(message.starts_with(&format!("The API server does not let the operator get {source}.")), "{message}");
    }
    assert_eq!(env.portal.requests("app"), 0, "no token is requested");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_rbac_does_not_let_the_operator_create_is_reported_before_a_token_is_requested() {
    let env = TestEnv::without_operator(&[]).await;
    let _operator = operator(&env, &[may("get", "secrets", &["oauth", "target-token"])]).await;
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("target", "oauth")).await;
    let message = fails(&env, "target", "TargetRefused", "Permission").await;
    assert!(message.starts_with("The API server does not let the operator write Secret target-token."), "{message}");
    assert_eq!(env.portal.requests("app"), 0, "no token is requested");
}

/// A webhook that is asked about the creation of one Secret in the namespace of a test.
pub fn configuration(env: &TestEnv, name: &str, secret: &str, url: &str, ca: &str) -> Value {
    let bundle = serde_json::to_value(k8s_openapi::ByteString(ca.as_bytes().to_vec())).unwrap();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("{name}-{}", env.namespace)},
        "webhooks": [{
            "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "timeoutSeconds": 2, "clientConfig": {"url": url, "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": env.namespace}},
            "matchConditions": [{"name": "one", "expression": format!("object.metadata.name == '{secret}'")}],
        }],
    })
}

/// Puts it into force, which takes some time.
pub async fn enforce(env: &TestEnv, configuration: &Value, secret: &str) {
    put(&env.client, configuration).await.unwrap();
    poll_until("the webhook is asked", LIMIT, async || {
        let body = json!({"metadata": {"name": secret}});
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        env.secrets().create(&dry, &serde_json::from_value(body).unwrap()).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_refuses_and_one_that_is_down_are_named_before_a_token_is_requested() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    let webhook = Webhook::start("canary-webhook-text").await.unwrap();
    let refuses = configuration(&env, "refuses", "refused-token", &webhook.url(), webhook.ca());
    let closed = testkit::free_address().unwrap().port();
    let url = format!("https://localhost:{closed}/canary-webhook-path");
    let down = configuration(&env, "down", "unasked-token", &url, webhook.ca());
    enforce(&env, &refuses, "refused-token").await;
    enforce(&env, &down, "unasked-token").await;
    env.apply(&env.manifest("refused", "oauth")).await;
    let message = fails(&env, "refused", "TargetRefused", "Webhook").await;
    assert!(
        message.starts_with("The admission webhook refuses.example.com refuses Secret refused-token."),
        "{message}"
    );
    env.apply(&env.manifest("unasked", "oauth")).await;
    let message = fails(&env, "unasked", "ClusterError", "WebhookFailed").await;
    assert!(message.starts_with("The API server cannot call the admission webhook down.example.com."), "{message}");
    assert_eq!(env.portal.requests("app"), 0);
    assert!(!env.log().contains("canary-webhook"), "nothing after the name is shown");
    for configuration in [&refuses, &down] {
        remove(&env.client, configuration).await.unwrap();
    }
    for name in ["refused", "unasked"] {
        env.wait_for(name, RETRIED, |r| is(r, "Ready", "True", "TokenValid")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_does_not_answer_is_a_time_out_of_the_api_server() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    // It accepts connections and answers nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", silent.local_addr().unwrap().port());
    let mut slow = configuration(&env, "slow", "slow-token", &url, env.portal.ca());
    slow["webhooks"][0]["timeoutSeconds"] = json!(30);
    put(&env.client, &slow).await.unwrap();
    poll_until("the webhook is asked", LIMIT, async || {
        let body = serde_json::from_value(json!({"metadata": {"name": "slow-token"}})).unwrap();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let secrets = env.secrets();
        tokio::time::timeout(Duration::from_secs(4), secrets.create(&dry, &body)).await.is_err().then_some(())
    })
    .await;
    env.apply(&env.manifest("slow", "oauth")).await;
    let message = fails(&env, "slow", "ClusterError", "Timeout").await;
    assert!(message.starts_with("The API server does not answer within 10 s."), "{message}");
    remove(&env.client, &slow).await.unwrap();
    env.wait_for("slow", RETRIED, |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(env.portal.requests("app"), 1);
}
