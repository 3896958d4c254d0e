//! Flux's kustomize-controller applies the resource and waits for its token.

use std::io::Write;
use std::process::Command;

use super::source::Source;
use super::{get, kubectl, page};
use crate::examples::Process;
use crate::support::tools::{folder, succeed};
use crate::support::{SECRET, TestEnv, WRONG_SECRET, free_address, is, text};
use serde_json::{Value, json};
use testkit::portal::App;

const RESOURCE: &str = "arcgisappcredential/basemaps";
const TOKEN: &str = "kustomization/basemaps-token";
const TILES: &str = "kustomization/tiles";
const WORKLOAD: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tiles, namespace: NAMESPACE}\ndata: {style: light}\n";

/// Returns a program that hack/flux/build has built.
fn program(name: &str) -> String {
    folder().join(name).display().to_string()
}

/// A namespace with a source, the Kustomizations of the page and the controller.
struct Flux {
    env: TestEnv,
    source: Source,
    reconciliations: u32,
    _controller: Process,
}

impl Flux {
    /// Starts the controller, in `make gitops`.
    async fn start() -> Option<Self> {
        if std::env::var_os("GITOPS").is_none() {
            std::io::stderr().write_all(b"gitops: NOT RUN: what needs Flux: run make gitops\n").unwrap();
            return None;
        }
        let env = TestEnv::new().await;
        let kinds = folder().join("flux.yaml");
        let mut apply = Command::new(env.plane.tool("kubectl"));
        apply.env("KUBECONFIG", env.plane.kubeconfig());
        succeed(apply.args(["apply", "--server-side", "-f"]).arg(kinds), "");
        kubectl(&env, &["wait", "--for=condition=Established", "crd", "--all"], "");
        let controller = Process::start(
            "kustomize-controller",
            &[
                &program("kustomize-controller"),
                "--watch-all-namespaces=false",
                "--metrics-addr=0",
                &format!("--health-addr={}", free_address()),
                "--requeue-dependency=1s",
            ],
            &[
                ("KUBECONFIG", env.plane.kubeconfig().display().to_string()),
                ("RUNTIME_NAMESPACE", env.namespace.clone()),
            ],
        );
        let mut source = Source::start().await;
        let repository = json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "maps"},
                                "spec": {"interval": "1m", "url": "https://git.example.com/maps"}});
        kubectl(&env, &["apply", "-f", "-"], &repository.to_string());
        let workload = WORKLOAD.replace("NAMESPACE", &env.namespace);
        let about = workload.replace("name: tiles", "name: about");
        source.commit(&[
            ("token/basemaps.yaml", Some(&page(&env, "flux-token"))),
            ("token/about.yaml", Some(&about)),
            ("tiles/tiles.yaml", Some(&workload)),
        ]);
        source.publish(&env);
        Some(Self { env, source, reconciliations: 0, _controller: controller })
    }

    fn apply_kustomizations(&self) {
        kubectl(&self.env, &["apply", "-f", "-"], &page(&self.env, "flux"));
    }

    /// Writes the credentials as a controller of a secret store does.
    fn store(&self, secret: &str) {
        let body = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "basemaps-oauth", "labels": {"reconcile.external-secrets.io/managed": "true"}},
            "stringData": {"client_id": "app", "client_secret": secret},
        });
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=external-secrets", "-f", "-"];
        kubectl(&self.env, &apply, &body.to_string());
    }

    fn wait(&self, object: &str, condition: &str) {
        kubectl(&self.env, &["wait", object, &format!("--for={condition}"), "--timeout=90s"], "");
    }

    fn ready(&self, kustomization: &str) -> Value {
        let (kind, name) = kustomization.split_once('/').unwrap();
        let object = get(&self.env, kind, name);
        let conditions = object["status"]["conditions"].as_array().unwrap();
        conditions.iter().find(|condition| condition["type"] == "Ready").unwrap().clone()
    }

    /// Waits for the reason of the Ready condition.
    fn wait_for_reason(&self, kustomization: &str, reason: &str) {
        let path = format!(r#"jsonpath={{.status.conditions[?(@.type=="Ready")].reason}}={reason}"#);
        self.wait(kustomization, &path);
    }

    /// Requests a reconciliation, and waits until it has ended.
    fn reconcile(&mut self, kustomization: &str) {
        self.reconciliations += 1;
        let mark = self.reconciliations.to_string();
        let annotation = format!("reconcile.fluxcd.io/requestedAt={mark}");
        kubectl(&self.env, &["annotate", "--overwrite", kustomization, &annotation], "");
        self.wait(kustomization, &format!("jsonpath={{.status.lastHandledReconcileAt}}={mark}"));
    }

    /// Returns the versions of the resource and of its target.
    fn versions(&self) -> [Value; 2] {
        [("arcgisappcredential", "basemaps"), ("secret", "basemaps-token")]
            .map(|(kind, name)| get(&self.env, kind, name)["metadata"]["resourceVersion"].clone())
    }

    async fn token(&self) -> String {
        text(&self.env.secrets().get("basemaps-token").await.unwrap())["access_token"].clone()
    }

    fn exists(&self, kind: &str, name: &str) -> bool {
        !kubectl(&self.env, &["get", kind, name, "--ignore-not-found", "-o", "name"], "").is_empty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_waits_for_credentials_that_appear_later_and_does_not_change_the_resource_afterward() {
    let Some(mut flux) = Flux::start().await else { return };
    flux.apply_kustomizations();
    flux.env.wait("basemaps", |r| is(r, "Reconciling", "True", "CredentialsNotFound")).await;
    flux.wait_for_reason(TILES, "DependencyNotReady");
    assert_eq!(flux.ready(TOKEN)["status"], "Unknown", "it waits");
    assert!(!flux.exists("configmap", "tiles"));

    flux.store(SECRET);
    flux.wait(TOKEN, "condition=Ready");
    assert!(flux.env.portal.tokens().contains(&flux.token().await));
    flux.wait(TILES, "condition=Ready");
    assert!(flux.exists("configmap", "tiles"));

    let before = flux.versions();
    for _ in 0..2 {
        flux.reconcile(TOKEN);
        flux.reconcile(TILES);
    }
    assert_eq!(flux.versions(), before, "Flux or the operator wrote again");
    let drifted = flux.env.calls().iter().filter(|(verb, ..)| verb == "update" || verb == "patch").count();
    flux.reconcile(TOKEN);
    let now = flux.env.calls().iter().filter(|(verb, ..)| verb == "update" || verb == "patch").count();
    assert_eq!(now, drifted, "the operator wrote again");
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_fails_while_action_is_required_and_recovers_after_a_rotation() {
    let Some(mut flux) = Flux::start().await else { return };
    flux.store(WRONG_SECRET);
    flux.apply_kustomizations();
    flux.env.wait("basemaps", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    let failed = |flux: &Flux| {
        flux.wait_for_reason(TOKEN, "HealthCheckFailed");
        let message = flux.ready(TOKEN)["message"].as_str().unwrap().to_owned();
        let resource = format!("ArcGisAppCredential/{}/basemaps status: 'Failed'", flux.env.namespace);
        assert!(message.starts_with("health check failed after") && message.contains(&resource), "{message}");
    };
    failed(&flux);
    assert!(!flux.exists("configmap", "tiles"));

    flux.store(SECRET);
    flux.env.wait("basemaps", |r| is(r, "Ready", "True", "TokenValid")).await;
    flux.reconcile(TOKEN);
    flux.wait(TOKEN, "condition=Ready");
    flux.wait(TILES, "condition=Ready");
    let first = flux.token().await;

    // The secret was replaced in ArcGIS, and not yet in the store; then the store has it, too.
    let rotated = format!("{SECRET}-rotated");
    flux.env.portal.app("app", App { secret: rotated.clone(), ..App::default() });
    flux.env.request_token("basemaps", "too-early").await;
    flux.env.wait("basemaps", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    flux.reconcile(TOKEN);
    failed(&flux);
    assert_eq!(flux.token().await, first, "the last token stays");
    flux.store(&rotated);
    flux.env.wait_target_for("basemaps", super::LIMIT, |secret| text(secret)["access_token"] != first).await;
    flux.env.wait("basemaps", |r| !is(r, "Stalled", "True", "ClientSecretRejected")).await;
    flux.reconcile(TOKEN);
    flux.wait(TOKEN, "condition=Ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_prunes_the_resource_and_the_target_is_deleted_with_it() {
    let Some(mut flux) = Flux::start().await else { return };
    flux.store(SECRET);
    flux.apply_kustomizations();
    flux.wait(TILES, "condition=Ready");
    assert!(flux.exists("secret", "basemaps-token"));

    flux.source.commit(&[("token/basemaps.yaml", None)]);
    flux.source.publish(&flux.env);
    flux.wait(RESOURCE, "delete");
    flux.wait("secret/basemaps-token", "delete");
    flux.reconcile(TOKEN);
    flux.wait(TOKEN, "condition=Ready");
    assert!(flux.exists("secret", "basemaps-oauth"), "the credentials are not Flux's");

    kubectl(&flux.env, &["delete", TILES, TOKEN, "--timeout=60s"], "");
    for name in ["tiles", "about"] {
        assert!(!flux.exists("configmap", name), "{name} was not pruned");
    }
}

/// Returns a manifest of the credentials as it is in Git, encrypted for the owner of the key.
fn encrypted(flux: &Flux, recipient: &str, secret: &str) -> String {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "basemaps-oauth", "namespace": flux.env.namespace},
        "stringData": {"client_id": "app", "client_secret": secret},
    });
    let mut sops = Command::new(program("sops"));
    sops.args(["encrypt", "--age", recipient, "--encrypted-regex", "^(data|stringData)$"]);
    let text =
        succeed(sops.args(["--input-type", "json", "--output-type", "yaml", "/dev/stdin"]), &manifest.to_string());
    assert!(!text.contains(secret));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_decrypts_credentials_with_sops_and_a_commit_rotates_them() {
    let Some(mut flux) = Flux::start().await else { return };
    let key = succeed(&mut Command::new(program("age-keygen")), "");
    let recipient = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let create = ["create", "secret", "generic", "sops-age", "--from-file=age.agekey=/dev/stdin"];
    kubectl(&flux.env, &create, &key);
    let file = "token/credentials.yaml";
    flux.source.commit(&[(file, Some(&encrypted(&flux, recipient, SECRET)))]);
    flux.source.publish(&flux.env);
    flux.apply_kustomizations();
    kubectl(&flux.env, &["patch", TOKEN, "--type=merge", "-p", &page(&flux.env, "flux-sops")], "");
    flux.wait(TOKEN, "condition=Ready");
    let first = flux.token().await;

    let rotated = format!("{SECRET}-rotated");
    flux.env.portal.app("app", App { secret: rotated.clone(), ..App::default() });
    flux.source.commit(&[(file, Some(&encrypted(&flux, recipient, &rotated)))]);
    flux.source.publish(&flux.env);
    flux.env.wait_target_for("basemaps", super::LIMIT, |secret| text(secret)["access_token"] != first).await;
    flux.reconcile(TOKEN);
    flux.wait(TOKEN, "condition=Ready");
}
