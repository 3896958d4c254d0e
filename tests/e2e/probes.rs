//! `probe` with what a resource names.

use std::process::Command;

use crate::support::{SECRET, TestEnv, WRONG_SECRET, is};
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
