//! The chart and the overlays on a real API server.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, client};
use tokio::time::timeout;

use super::render::{
    CHART, IMAGE, MATRIX, NAME, ROOT, arguments, environment, helm, objects, of_kind, render, try_render,
};
use super::schemas;
use crate::support::tools::{Printed, folder, run, succeed, tool};
use crate::support::{SECRET, TestEnv, WRONG_SECRET, failure_reason, is, text};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Creates a namespace that enforces the Pod Security Standard `restricted`.
fn restricted(plane: &ControlPlane) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let name = format!("packaging-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
    let label = |mode: &str| (format!("pod-security.kubernetes.io/{mode}"), json!("restricted"));
    let labels: serde_json::Map<String, Value> = [label("enforce"), label("warn")].into_iter().collect();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    succeed(&mut kubectl(plane, &["create", "-f", "-"]), &namespace.to_string());
    name
}

pub fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> Command {
    let mut command = Command::new(plane.tool("kubectl"));
    command.env("KUBECONFIG", plane.kubeconfig()).args(arguments);
    command
}

/// Runs Helm against a control plane.
fn helm_on(plane: &ControlPlane, arguments: &[&str], values: &str) -> Printed {
    let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig().display());
    helm(plane.dir(), &[&[kubeconfig.as_str()], arguments].concat(), values)
}

fn succeed_helm(plane: &ControlPlane, arguments: &[&str], values: &str) -> String {
    let printed = helm_on(plane, arguments, values);
    assert!(printed.success, "{arguments:?}: {}{}", printed.err, printed.out);
    printed.out
}

/// Returns every rendering, in the namespaces that its objects name.
fn renderings() -> Vec<String> {
    MATRIX.iter().map(|values| try_render(CHART, values).unwrap()).collect()
}

#[test]
fn every_rendering_is_accepted_by_kubeconform_and_the_api_server() {
    let plane = ControlPlane::from_env().unwrap();
    let kinds = folder().join("prometheus-operator.yaml");
    succeed(&mut kubectl(&plane, &["apply", "--server-side", "-f", kinds.to_str().unwrap()]), "");
    succeed(&mut kubectl(&plane, &["wait", "--for=condition=Established", "crd", "--all"]), "");
    for namespace in ["maps", "gis", NAME] {
        // Another test may have created it.
        run(&mut kubectl(&plane, &["create", "namespace", namespace]), "");
    }
    let restricted = ["enforce", "warn"].map(|mode| format!("pod-security.kubernetes.io/{mode}=restricted"));
    succeed(&mut kubectl(&plane, &["label", "--overwrite", "namespace", NAME, &restricted[0], &restricted[1]]), "");

    let folder = tempfile::TempDir::new().unwrap();
    let openapi = loop {
        let openapi = succeed(&mut kubectl(&plane, &["get", "--raw", "/openapi/v2"]), "");
        if ["PrometheusRule", "PodMonitor", "ServiceMonitor"].iter().all(|kind| openapi.contains(kind)) {
            break openapi;
        }
        // A kind appears in the `OpenAPI` document some time after it is established, without an event.
        std::thread::sleep(Duration::from_millis(100));
    };
    schemas::write(&serde_json::from_str(&openapi).unwrap(), folder.path());
    let location =
        format!("{}/{{{{.Group}}}}-{{{{.ResourceKind}}}}-{{{{.ResourceAPIVersion}}}}.json", folder.path().display());
    let kubeconform = |text: &str| {
        run(Command::new(tool("kubeconform")).args(["-strict", "-summary", "-schema-location", &location]), text)
    };
    for text in renderings() {
        let printed = kubeconform(&text);
        assert!(printed.success && printed.out.contains("Skipped: 0"), "{}{}", printed.out, printed.err);
        let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
        let printed = run(&mut kubectl(&plane, &apply), &text);
        assert!(printed.success && printed.err.is_empty(), "{}{}", printed.out, printed.err);
    }
    let misspelled =
        try_render(CHART, "{}").unwrap().replace("terminationGracePeriodSeconds", "terminationGraceSeconds");
    assert!(!kubeconform(&misspelled).success, "a misspelled field is not detected");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_admitted_under_the_restricted_pod_security_standard() {
    let plane = ControlPlane::from_env().unwrap();
    let client = client(&plane.kubeconfig()).await.unwrap();
    let namespace = restricted(&plane);
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let there = await_condition(accounts, "default", |account: Option<&ServiceAccount>| account.is_some());
    timeout(TIMEOUT, there).await.unwrap().unwrap();
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for values in MATRIX {
        let objects = render(values);
        let template = of_kind(&objects, "Deployment")[0]["spec"]["template"].clone();
        for mut pod in [vec![&template], of_kind(&objects, "Pod")].concat().into_iter().cloned() {
            pod["metadata"] = json!({"name": "pod", "labels": pod["metadata"]["labels"]});
            pod["spec"]["serviceAccountName"] = json!("default");
            pods.create(&dry, &serde_json::from_value(pod.clone()).unwrap()).await.unwrap();
            pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
            pods.create(&dry, &serde_json::from_value(pod).unwrap()).await.unwrap_err();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_the_resources_stay() {
    let bin = ControlPlane::from_env().unwrap().tool("kubectl");
    // A separate control plane, because the release must own the CRD.
    let plane = ControlPlane::start(bin.parent().unwrap(), None, false).await.unwrap();
    let there = |what: &str, name: &str| run(&mut kubectl(&plane, &["-n", NAME, "get", what, name]), "").success;
    let in_namespace = ["--namespace", NAME, "--values=-", IMAGE];

    succeed(&mut kubectl(&plane, &["apply", "--server-side", "-k", &format!("{ROOT}/crds")]), "");
    let install = [&["install", NAME, CHART, "--create-namespace"], &in_namespace[..]].concat();
    assert!(!helm_on(&plane, &install, "{}").success, "a CRD of another owner was taken over without --take-ownership");
    let printed = succeed_helm(&plane, &[&install[..], &["--take-ownership"]].concat(), "{}");
    assert!(printed.contains("in ALL namespaces"), "{printed}");
    assert!(there("deployment", NAME) && !there("poddisruptionbudget", NAME));

    let printed = succeed_helm(
        &plane,
        &[&["upgrade", NAME, CHART], &in_namespace[..]].concat(),
        &format!("{{replicaCount: 2, namespaces: [{NAME}]}}"),
    );
    assert!(printed.contains("in the namespaces arcgis-credential-operator only"), "{printed}");
    assert!(there("poddisruptionbudget", NAME) && !there("clusterrole", NAME));

    succeed_helm(&plane, &["rollback", NAME, "1", "--namespace", NAME], "");
    assert!(!there("poddisruptionbudget", NAME) && there("clusterrole", NAME));

    let resource = std::fs::read_to_string(format!("{ROOT}/examples/basic.yaml")).unwrap();
    succeed(&mut kubectl(&plane, &["-n", NAME, "apply", "-f", "-"]), &resource);
    succeed_helm(&plane, &["uninstall", NAME, "--namespace", NAME], "");
    assert!(!there("deployment", NAME) && !there("serviceaccount", NAME) && !there("clusterrole", NAME));
    let crd =
        ["get", "crd", "arcgisappcredentials.credentials.arcgis.dev", "-o", "jsonpath={.metadata.deletionTimestamp}"];
    assert_eq!(succeed(&mut kubectl(&plane, &crd), ""), "", "the CRD is deleted with the release");
    assert!(there("arcgisappcredential", "basemaps"), "the resource was deleted with the release");

    // A new release takes over what was left.
    succeed_helm(&plane, &install, "{}");
    assert!(there("deployment", NAME));
    plane.stop().await;
}

/// Renews, changes formats, rotates to a wrong secret and back, repairs drift, changes the ownership, restores and
/// deletes the target of a ready resource.
async fn whole_life(env: &TestEnv, name: &str) {
    let (target, oauth) = (format!("{name}-token"), format!("{name}-oauth"));
    let owned = |secret: &Secret| secret.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    let before = env.target(name).await;
    env.request_token(name, "now").await;
    env.wait_target(name, |s| text(s)["access_token"] != before["access_token"]).await;
    env.change(name, json!({"spec": {"target": {"formats": ["Headers"]}}})).await;
    env.wait_target(name, |s| text(s).contains_key("headers")).await;
    env.credentials(&oauth, name, WRONG_SECRET).await;
    env.wait(name, |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    env.credentials(&oauth, name, SECRET).await;
    env.wait(name, |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
    env.edit_secret(&target, json!({"data": {"expires_at": null}})).await;
    env.wait_target(name, |s| text(s).contains_key("expires_at")).await;
    env.change(name, json!({"spec": {"target": {"deletionPolicy": "Retain"}}})).await;
    env.wait_target(name, |s| !owned(s)).await;
    env.change(name, json!({"spec": {"target": {"deletionPolicy": "Delete"}}})).await;
    let uid = env.wait_target(name, owned).await.metadata.uid;
    env.secrets().delete(&target, &DeleteParams::default()).await.unwrap();
    let restored = env.wait_target(name, |s| s.metadata.uid != uid).await.metadata.uid.unwrap();
    env.delete(name).await;
    let collected = await_condition(env.secrets(), &target, conditions::is_deleted(&restored));
    timeout(Duration::from_mins(1), collected).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_permissions_in_one_namespace_the_operator_works_only_there() {
    let mut env = TestEnv::new().await;
    env.kill().await;
    let mut other_env = TestEnv::new().await;
    other_env.kill().await;
    let home = restricted(&env.plane);
    let values = json!({
        "fullnameOverride": NAME, "namespaces": [env.namespace], "allowedPortals": [env.portal.url()],
        // The kustomize base has already created both.
        "crds": {"enabled": false}, "rbac": {"userRoles": {"create": false}},
    });
    let install = ["install", &home, CHART, "--namespace", &home, "--values=-", IMAGE];
    succeed_helm(&env.plane, &install, &values.to_string());
    let token = succeed(&mut kubectl(&env.plane, &["create", "token", NAME, "--namespace", &home]), "");
    let kubeconfig = env.plane.kubeconfig_for(&home, token.trim()).unwrap();

    let rendered = succeed_helm(&env.plane, &["get", "manifest", &home, "--namespace", &home], "");
    let ca = env.plane.dir().join(format!("{home}-ca.pem"));
    std::fs::write(&ca, env.portal.ca()).unwrap();
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"))
        .args(arguments(&objects(&rendered)))
        .envs(environment(&objects(&rendered)))
        .args(["--admin-address", &env.admin.to_string(), "--ca-file"])
        .arg(ca)
        .env("KUBECONFIG", &kubeconfig)
        // In a pod, the operator reads it from the files of the service account.
        .env("ARCGIS_OPERATOR_LEASE_NAMESPACE", &home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    env.operator = Some(child);

    other_env.credentials("app-oauth", "app", "secret").await;
    other_env.apply(&other_env.manifest("app", "app-oauth")).await;
    let target = env.ready("app").await;
    assert!(target.contains_key("access_token"));
    env.wait("app", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert!(env.is_ready().await);
    let other = other_env.resources().get("app").await.unwrap();
    assert!(other.status.is_none_or(|status| status.conditions.is_empty()), "it was reconciled");
    whole_life(&env, "app").await;

    let may = |verb: &str, what: &str, namespace: &str| {
        let mut command = Command::new(env.plane.tool("kubectl"));
        command.env("KUBECONFIG", &kubeconfig).args(["auth", "can-i", verb, what, "--namespace", namespace]);
        run(&mut command, "").out.trim() == "yes"
    };
    assert!(may("patch", "secrets", &env.namespace) && !may("delete", "secrets", &env.namespace));
    assert!(!may("get", "secrets", &other_env.namespace) && !may("list", "secrets", &home));
    assert!(may("update", &format!("leases/{NAME}"), &home) && !may("update", "leases/other", &home));
    assert_eq!(env.terminate().await, Some(0));
}
