//! Argo CD's health check and the fields that it ignores.

use std::path::Path;
use std::process::Command;

use super::{get, kubectl};
use crate::support::fences::{fences, script};
use crate::support::tools::{go_build, run, succeed};
use crate::support::{SECRET, TestEnv, WRONG_SECRET, is};
use serde_json::{Value, json};

const FOLDER: &str = "deploy/argocd/resource_customizations/credentials.arcgis.dev/ArcGisAppCredential";

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join(name)
}

fn interpreter() -> Command {
    Command::new(go_build("hack/argocd", "."))
}

/// Returns the health of a live resource: the status and the message.
fn health(env: &TestEnv, name: &str) -> String {
    let object = get(env, "arcgisappcredential", name).to_string();
    succeed(interpreter().arg(file("health.lua")), &object)
}

#[test]
fn the_health_check_passes_its_tests_in_the_format_of_argo_cd() {
    let printed = succeed(interpreter().arg(file("health_test.yaml")), "");
    assert_eq!(printed.lines().count(), std::fs::read_dir(file("testdata")).unwrap().count());
}

#[test]
fn a_wrong_expectation_fails_the_tests_of_the_health_check() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("testdata")).unwrap();
    for name in ["health.lua", "health_test.yaml", "testdata/valid.yaml"] {
        std::fs::copy(file(name), folder.path().join(name)).unwrap();
    }
    let suite = "tests:\n- healthStatus: {status: Degraded}\n  inputPath: testdata/valid.yaml\n";
    std::fs::write(folder.path().join("health_test.yaml"), suite).unwrap();
    assert!(!run(interpreter().arg(folder.path().join("health_test.yaml")), "").success);
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_reports_the_health_of_a_live_resource() {
    let env = TestEnv::new().await;
    env.apply(&env.manifest("app", "app-oauth")).await;
    env.wait("app", |r| is(r, "Reconciling", "True", "CredentialsNotFound")).await;
    let found = health(&env, "app");
    assert!(found.starts_with("Progressing CredentialsNotFound: Secret app-oauth"), "{found}");

    env.credentials("app-oauth", "app", WRONG_SECRET).await;
    env.wait("app", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    let found = health(&env, "app");
    assert!(found.starts_with("Degraded ClientSecretRejected: Portal "), "{found}");

    env.credentials("app-oauth", "app", SECRET).await;
    env.wait("app", |r| is(r, "Ready", "True", "TokenValid") && !is(r, "Stalled", "True", "ClientSecretRejected"))
        .await;
    let found = health(&env, "app");
    assert!(found.starts_with("Healthy TokenValid: Valid until "), "{found}");

    env.change("app", json!({"spec": {"suspend": true}})).await;
    env.wait("app", |r| r.status.as_ref().map(|status| status.observed_generation) == r.metadata.generation).await;
    assert_eq!(health(&env, "app"), "Suspended The resource is suspended.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_install_the_health_check_and_keep_other_keys() {
    let env = TestEnv::new().await;
    kubectl(&env, &["create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example.com"], "");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gitops.md");
    let text = script(&page, "argocd").replace("-n argocd ", &format!("-n {} ", env.namespace));
    let path = format!("{}:{}", env.plane.bin().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", &text]).current_dir(env!("CARGO_MANIFEST_DIR"));
    succeed(command.env("PATH", path).env("KUBECONFIG", env.plane.kubeconfig()), "");
    let data = get(&env, "configmap", "argocd-cm")["data"].clone();
    assert_eq!(data["url"], "https://argocd.example.com");
    let script = std::fs::read_to_string(file("health.lua")).unwrap();
    assert_eq!(data["resource.customizations.health.credentials.arcgis.dev_ArcGisAppCredential"], script);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ignored_manager_owns_what_the_operator_writes_into_a_target() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gitops.md");
    let snippet = fences(&page).into_iter().find(|fence| fence.is("yaml", "argocd-ignore")).unwrap().text;
    let snippet: Value = serde_saphyr::from_str(&snippet).unwrap();
    let ignored = &snippet["spec"]["ignoreDifferences"][0];
    assert_eq!(ignored["kind"], "Secret");
    let env = TestEnv::new().await;
    env.ready("app").await;
    let target =
        json!({"metadata": {"managedFields": env.secrets().get("app-token").await.unwrap().metadata.managed_fields}});
    let owners = target["metadata"]["managedFields"].as_array().unwrap();
    assert!(owners.iter().all(|owner| owner["manager"] == ignored["managedFieldsManagers"][0]), "{owners:?}");
}
