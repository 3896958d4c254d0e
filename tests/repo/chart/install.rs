//! The README's commands in an empty cluster, and the operator as they install it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use arcgis_credential_operator::api::ArcGisAppCredential;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::json;
use testkit::control_plane::{ControlPlane, client};
use testkit::portal::{App, Certificate, Portal};
use tokio::time::timeout;

use super::cluster::kubectl;
use super::dist::dist;
use super::render::{NAME, ROOT, arguments, environment, objects};
use crate::support::fences::script;
use crate::support::fleet::{Replica, poll_until};
use crate::support::tools::{folder, succeed};
use crate::support::{SECRET, free_address, is};

const TIMEOUT: Duration = Duration::from_secs(20);

/// An empty cluster, in which a test runs commands as a user would.
struct Cluster {
    plane: ControlPlane,
    portal: Portal,
    client: kube::Client,
}

impl Cluster {
    async fn empty() -> Self {
        let plane = ControlPlane::start(&ControlPlane::from_env().unwrap().bin(), None, false).await.unwrap();
        let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
        portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
        let client = client(&plane.kubeconfig()).await.unwrap();
        Self { plane, portal, client }
    }

    /// Runs commands as a user would in the source tree.
    fn shell(&self, text: &str) -> String {
        let path = std::env::var_os("PATH").unwrap();
        let path = [self.plane.bin()].into_iter().chain(std::env::split_paths(&path)).chain([folder()]);
        let mut bash = Command::new("bash");
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            bash.env(home, self.plane.dir().join(home));
        }
        bash.args(["-c", text]).current_dir(ROOT).env("PATH", std::env::join_paths(path).unwrap());
        succeed(bash.env("KUBECONFIG", self.plane.kubeconfig()), "")
    }

    /// Starts the operator with the arguments of the Deployment and as its service account, with the test portal
    /// allowed too.
    async fn operator(&self) -> Replica {
        let deployment = succeed(&mut kubectl(&self.plane, &["-n", NAME, "get", "deployment", NAME, "-o", "yaml"]), "");
        let deployment = objects(&deployment);
        let account = deployment[0]["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap();
        let token = succeed(&mut kubectl(&self.plane, &["-n", NAME, "create", "token", account]), "");
        let ca = self.plane.dir().join("portal-ca.pem");
        std::fs::write(&ca, self.portal.ca()).unwrap();
        let admin = free_address();
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"))
            .args(arguments(&deployment))
            .envs(environment(&deployment))
            .args(["--allowed-portal", &self.portal.url(), "--admin-address", &admin.to_string(), "--ca-file"])
            .arg(ca)
            .env("KUBECONFIG", self.plane.kubeconfig_for("operator", token.trim()).unwrap())
            // In a pod, the operator reads it from the files of the service account.
            .env("ARCGIS_OPERATOR_LEASE_NAMESPACE", NAME)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let operator = Replica { child, admin };
        poll_until("it is ready", TIMEOUT, async || operator.is_ready().await.then_some(())).await;
        operator
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), "maps")
    }

    /// Creates two resources with different deletion policies.
    async fn fill(&self) {
        self.shell(&format!(
            "kubectl -n maps create secret generic app \
             --from-literal=client_id=app --from-literal=client_secret={SECRET}"
        ));
        for policy in ["Delete", "Retain"] {
            let name = policy.to_lowercase();
            let resource = json!({
                "apiVersion": "credentials.arcgis.dev/v1alpha1", "kind": "ArcGisAppCredential",
                "metadata": {"name": name, "namespace": "maps"},
                "spec": {"portal": {"url": self.portal.url()}, "credentialsRef": {"name": "app"},
                         "target": {"name": format!("{name}-token"), "deletionPolicy": policy}},
            });
            succeed(&mut kubectl(&self.plane, &["apply", "-f", "-"]), &resource.to_string());
            let resources = Api::<ArcGisAppCredential>::namespaced(self.client.clone(), "maps");
            let ready = |r: Option<&ArcGisAppCredential>| r.is_some_and(|r| is(r, "Ready", "True", "TokenValid"));
            timeout(TIMEOUT, await_condition(resources, &name, ready)).await.unwrap().unwrap();
        }
    }

    async fn token(&self, name: &str) -> Option<String> {
        let secret = self.secrets().get_opt(&format!("{name}-token")).await.unwrap()?;
        Some(crate::support::text(&secret)["access_token"].clone())
    }
}

fn page(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// Installs as the README describes, and works.
async fn worked(installer: &str) -> (Cluster, [Option<String>; 2]) {
    worked_after(&script(&page("README.md"), installer)).await
}

/// Installs with these commands, lets the operator fill two targets, stops it, and returns the cluster with both tokens.
async fn worked_after(commands: &str) -> (Cluster, [Option<String>; 2]) {
    let cluster = Cluster::empty().await;
    cluster.shell(commands);
    let mut operator = cluster.operator().await;
    cluster.fill().await;
    operator.signal("TERM").await;
    assert_eq!(operator.exit_code().await, Some(0));
    let tokens = [cluster.token("delete").await, cluster.token("retain").await];
    assert!(tokens.iter().all(|token| token.as_ref().is_some_and(|token| cluster.portal.tokens().contains(token))));
    (cluster, tokens)
}

/// Runs the commands of a section of the operations page.
fn operate(cluster: &Cluster, part: &str) {
    cluster.shell(&script(&page("docs/operations.md"), part));
}

/// Deletes all resources, and checks that only the retained Secret stays, unchanged.
async fn remove_resources(cluster: &Cluster, retained: Option<&String>) {
    let uid = cluster.secrets().get("delete-token").await.unwrap().uid().unwrap();
    operate(cluster, "remove-resources");
    let gone = await_condition(cluster.secrets(), "delete-token", is_deleted(&uid));
    // In a new cluster, the garbage collector discovers a kind within half a minute, and retries with back-off.
    timeout(Duration::from_secs(90), gone).await.expect("a Secret was not deleted with its owner").unwrap();
    assert_eq!(cluster.token("retain").await.as_ref(), retained);
}

/// Checks that nothing but the retained Secret is left.
async fn all_is_removed(cluster: Cluster, retained: Option<&String>) {
    assert_eq!(cluster.shell("kubectl get crd,clusterroles -o name | grep arcgis || true"), "");
    assert_eq!(cluster.shell("kubectl get roles,rolebindings -n maps -o name"), "");
    assert_eq!(cluster.shell(&format!("kubectl get deployments,leases --namespace {NAME} -o name")), "");
    assert_eq!(cluster.token("retain").await.as_ref(), retained);
    cluster.plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_installs_with_helm_and_uninstalling_keeps_retained_secrets() {
    let (cluster, tokens) = worked("helm").await;
    operate(&cluster, "uninstall-helm");
    assert_eq!(
        [cluster.token("delete").await, cluster.token("retain").await],
        tokens,
        "tokens were deleted with the release"
    );
    let resources = cluster.shell("kubectl -n maps get agc -o name");
    assert_eq!(resources.lines().count(), 2, "resources were deleted with the release");
    remove_resources(&cluster, tokens[1].as_ref()).await;
    operate(&cluster, "remove-crd");
    all_is_removed(cluster, tokens[1].as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_installs_with_kubectl_and_uninstalling_keeps_retained_secrets() {
    let (cluster, tokens) = worked("kustomize").await;
    remove_resources(&cluster, tokens[1].as_ref()).await;
    operate(&cluster, "uninstall-kustomize");
    all_is_removed(cluster, tokens[1].as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_installs_the_operator() {
    let folder = tempfile::TempDir::new().unwrap();
    let printed = dist(folder.path(), &[]);
    assert!(printed.success, "{}", printed.err);
    for file in ["install.yaml", "install-namespaced.yaml"] {
        let file = folder.path().join(file).display().to_string();
        let (cluster, tokens) =
            worked_after(&format!("kubectl create namespace maps && kubectl apply -f {file}")).await;
        remove_resources(&cluster, tokens[1].as_ref()).await;
        cluster.shell(&format!("kubectl delete -f {file}"));
        all_is_removed(cluster, tokens[1].as_ref()).await;
    }
}
