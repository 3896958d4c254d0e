//! `probe` with what a resource names.

use std::path::PathBuf;
use std::process::Command;

use crate::support::tinyproxy::Tinyproxy;
use crate::support::tools::{run, succeed};
use crate::support::{SECRET, TestEnv, WRONG_SECRET, is};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testkit::portal::{App, TOKEN_CANARY};

/// Probes a resource with the operator's permissions; returns the exit code and what is printed.
async fn probe(env: &TestEnv, resource: &str, allowed: &str) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
    command.args(["probe", "--output=json", "--resource", &format!("{}/{resource}", env.namespace)]);
    command.env("KUBECONFIG", TestEnv::restricted()).env("ARCGIS_OPERATOR_CA_FILE", env.ca_file());
    if !allowed.is_empty() {
        command.env("ARCGIS_OPERATOR_ALLOWED_PORTAL", allowed);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains(TOKEN_CANARY) && !text.contains(SECRET), "{text}");
    let shown = serde_json::Deserializer::from_str(&text).into_iter().next();
    (output.status.code(), shown.and_then(Result::ok).unwrap_or(json!(text)))
}

fn step<'a>(printed: &'a Value, name: &str) -> (&'a str, &'a str) {
    let steps = printed["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("{name}: {printed}"));
    (step["result"].as_str().unwrap(), step["seen"][0].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_a_resource_shows_portal_app_and_target_and_writes_nothing() {
    let env = TestEnv::new().await;
    env.portal.app("shown", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("oauth", "shown", SECRET).await;
    env.apply(&env.manifest("shown", "oauth")).await;
    let before = env.wait("shown", |r| is(r, "Ready", "True", "TokenValid")).await;
    let published = env.target("shown").await;
    let (code, printed) = probe(&env, "shown", &env.portal.url()).await;
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(step(&printed, "Allowed").0, "ok");
    assert_eq!(step(&printed, "ArcGIS"), ("ok", "Issued: a token for 2h"));
    assert_eq!(step(&printed, "portals/self"), ("ok", "AppKnown"));
    let (result, seen) = step(&printed, "Target");
    assert!(result == "ok" && seen.contains("holds a token that is valid until"), "{printed}");
    assert_eq!(env.portal.requests("shown"), 2, "it requests one of its own");
    assert_eq!(env.target("shown").await, published);
    assert_eq!(env.resources().get("shown").await.unwrap().metadata.resource_version, before.metadata.resource_version);
    let (_, unchecked) = probe(&env, "shown", "").await;
    assert_eq!(step(&unchecked, "Allowed"), ("skipped", "not checked: no --allowed-portal"));
    let (code, refused) = probe(&env, "shown", "https://www.arcgis.com").await;
    assert_eq!((code, &refused["failure"]["cause"]), (Some(1), &json!("NotListed")));
    assert_eq!(env.portal.requests("shown"), 3, "nothing is sent to a portal that is not allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_a_resource_lacks_as_its_status_does() {
    let env = TestEnv::new().await;
    env.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    env.apply(&env.manifest("bare", "missing")).await;
    let (code, printed) = probe(&env, "bare", &env.portal.url()).await;
    assert_eq!((code, &printed["failure"]["reason"]), (Some(1), &json!("CredentialsNotFound")));
    env.credentials("wrong", "app", WRONG_SECRET).await;
    env.apply(&env.manifest("rejected", "wrong")).await;
    let resource = env.wait("rejected", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    let (_, printed) = probe(&env, "rejected", &env.portal.url()).await;
    let failure = resource.status.unwrap().failure.unwrap();
    assert_eq!(printed["failure"]["message"], failure.message.unwrap());
    assert_eq!(step(&printed, "Target").0, "failed");
    let (code, printed) = probe(&env, "none", &env.portal.url()).await;
    assert!(code == Some(1) && printed.as_str().unwrap().contains("there is no resource"), "{printed}");
}

/// Applies the manifest of the Job in the namespace of a test; returns a kubeconfig of its account, and what its container
/// runs.
async fn job(env: &TestEnv) -> (PathBuf, Vec<String>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/probe-job.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.replace("namespace: maps", &format!("namespace: {}", env.namespace));
    let text = text.replace("=maps/", &format!("={}/", env.namespace));
    let kubeconfig = env.plane.kubeconfig();
    let mut kubectl = Command::new(env.plane.tool("kubectl"));
    kubectl.env("KUBECONFIG", kubeconfig).args(["apply", "--server-side", "--validate=strict", "-f", "-"]);
    let input = text.clone();
    tokio::task::spawn_blocking(move || succeed(&mut kubectl, &input)).await.unwrap();
    let job: Value = serde_saphyr::from_str(text.split("\n---\n").last().unwrap()).unwrap();
    let template = &job["spec"]["template"]["spec"];
    let arguments = template["containers"][0]["args"].as_array().unwrap();
    let accounts = Api::<ServiceAccount>::namespaced(env.client.clone(), &env.namespace);
    let account = template["serviceAccountName"].as_str().unwrap();
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    let kubeconfig = env.plane.kubeconfig_for(&format!("{}-job", env.namespace), &token.status.unwrap().token).unwrap();
    (kubeconfig, arguments.iter().map(|argument| argument.as_str().unwrap().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_for_those_who_may_not_exec_reads_one_resource_and_writes_nothing() {
    let env = TestEnv::new().await;
    env.ca_bundle("portal-ca", env.portal.ca()).await;
    for name in ["basemaps", "other"] {
        env.portal.app(name, App { secret: SECRET.to_owned(), ..App::default() });
        env.credentials(&format!("{name}-oauth"), name, SECRET).await;
        let mut manifest = env.manifest(name, &format!("{name}-oauth"));
        manifest["spec"]["portal"]["caBundleRef"] = json!({"name": "portal-ca"});
        env.apply(&manifest).await;
        env.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
    }
    let before = env.secrets().get("basemaps-token").await.unwrap().metadata.resource_version;
    let (kubeconfig, arguments) = job(&env).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
    command.args(&arguments).env("KUBECONFIG", &kubeconfig);
    let printed = tokio::task::spawn_blocking(move || run(&mut command, "")).await.unwrap();
    assert!(printed.success, "{}{}", printed.out, printed.err);
    for line in [
        "Sources       ok      Secret basemaps-oauth",
        "ArcGIS        ok      Issued",
        "portals/self  ok      AppKnown",
    ] {
        assert!(printed.out.contains(line), "{line}: {}", printed.out);
    }
    assert!(printed.out.contains("Target        ok      Secret basemaps-token holds a token"), "{}", printed.out);
    assert!(!printed.out.contains(TOKEN_CANARY) && !printed.out.contains(SECRET));
    assert_eq!(env.secrets().get("basemaps-token").await.unwrap().metadata.resource_version, before);

    let may = async |verb: &str, object: &str| {
        let mut kubectl = Command::new(env.plane.tool("kubectl"));
        kubectl.env("KUBECONFIG", &kubeconfig).args(["-n", &env.namespace, "auth", "can-i", verb, object]);
        tokio::task::spawn_blocking(move || run(&mut kubectl, "").success).await.unwrap()
    };
    assert!(may("get", "secret/basemaps-oauth").await && may("get", "secret/basemaps-token").await);
    for (verb, object) in [
        ("get", "secret/other-oauth"),
        ("list", "secrets"),
        ("patch", "secret/basemaps-token"),
        ("delete", "secret/basemaps-token"),
        ("create", "secrets"),
        ("list", "arcgisappcredentials"),
        ("patch", "arcgisappcredentials/basemaps"),
        ("get", "configmap/other"),
        ("create", "pods"),
    ] {
        assert!(!may(verb, object).await, "{verb} {object}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
    command.args(["probe", "--resource", &format!("{}/other", env.namespace)]).env("KUBECONFIG", &kubeconfig);
    let printed = tokio::task::spawn_blocking(move || run(&mut command, "")).await.unwrap();
    assert!(!printed.success && printed.err.contains("the permission is missing"), "{}{}", printed.out, printed.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_asks_for_credentials_is_named() {
    let Some(proxy) = Tinyproxy::start("BasicAuth user canary-password").await else { return };
    let env = TestEnv::new().await;
    env.ready("proxied").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
    command.args(["probe", "--resource", &format!("{}/proxied", env.namespace)]);
    command.env("KUBECONFIG", TestEnv::restricted()).env("ARCGIS_OPERATOR_CA_FILE", env.ca_file());
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port));
    let printed = tokio::task::spawn_blocking(move || run(&mut command, "")).await.unwrap();
    let says = format!("PortalUnreachable (ProxyRejected): The proxy 127.0.0.1:{} on the way to portal", proxy.port);
    assert!(printed.err.contains(&says) && printed.err.contains("asks for credentials (HTTP 407)"), "{}", printed.err);
    assert!(!printed.out.contains("canary") && !printed.err.contains("canary"), "{}{}", printed.out, printed.err);
}
