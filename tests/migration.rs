//! docs/migration.md: a Secret changes hands and back, and whoever reads it never misses its key.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use serde_json::json;
use support::fences::script;
use support::tools::{run, succeed};
use support::{SECRET, World, is, text};
use testkit::portal::App;

const OLD: &str = "a-token-that-the-job-has-written";

/// The document's commands, in this world's namespace and for its portal.
fn commands(world: &World, part: &str, patience: &str) -> Command {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migration.md");
    let files = world.plane.dir().join(format!("{}-app", world.namespace));
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("id"), "app").unwrap();
    std::fs::write(files.join("secret"), SECRET).unwrap();
    let text = script(&document, part)
        .replace("--timeout=30s", &format!("--timeout={patience}"))
        .replace("-n maps ", &format!("-n {} ", world.namespace))
        .replace("\nspec:\n", &format!("\nspec:\n  portal: {{url: \"{}\"}}\n", world.portal.url()));
    let path = format!("{}:{}", world.plane.bin().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", &text]).env("PATH", path).env("KUBECONFIG", world.plane.kubeconfig());
    command.env("CLIENT_ID_FILE", files.join("id")).env("CLIENT_SECRET_FILE", files.join("secret"));
    command
}

/// Somebody else's Secret, and the job that writes it.
async fn legacy(world: &World, owners: serde_json::Value) {
    let secret = json!({"metadata": {"name": "basemaps", "ownerReferences": owners},
                        "stringData": {"token": OLD, "other": "stays"}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    world.secrets().create(&kube::api::PostParams::default(), &secret).await.unwrap();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "token-refresh"},
        "spec": {"schedule": "*/30 * * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "job", "image": "registry.example.com/job"}]}}}}},
    });
    succeed(&mut kubectl(world, &["create", "-f", "-"]), &job.to_string());
    world.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
}

fn kubectl(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(world.plane.tool("kubectl"));
    command.env("KUBECONFIG", world.plane.kubeconfig()).args(["-n", &world.namespace]).args(arguments);
    command
}

/// What a reader sees under the key `token`, version by version; `None`: no Secret, or no key.
fn reader(world: &World) -> Arc<Mutex<Vec<Option<String>>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (secrets, sink) = (world.secrets(), seen.clone());
    tokio::spawn(async move {
        let config = watcher::Config::default().fields("metadata.name=basemaps");
        let mut events = watcher::watcher(secrets, config).boxed();
        while let Some(event) = events.next().await {
            match event.unwrap() {
                watcher::Event::Apply(secret) | watcher::Event::InitApply(secret) => {
                    sink.lock().unwrap().push(text(&secret).get("token").cloned());
                }
                watcher::Event::Delete(_) => sink.lock().unwrap().push(None),
                watcher::Event::Init | watcher::Event::InitDone => {}
            }
        }
    });
    seen
}

async fn token(world: &World) -> String {
    text(&world.secrets().get("basemaps").await.unwrap())["token"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_hands_its_secret_over_and_takes_it_back_and_no_reader_misses_the_key() {
    let world = World::new().await;
    legacy(&world, json!([])).await;
    let seen = reader(&world);

    succeed(&mut commands(&world, "cronjob", "30s"), "");
    let first = token(&world).await;
    assert!(world.portal.tokens().contains(&first), "the key holds the job's token still");
    assert_eq!(text(&world.secrets().get("basemaps").await.unwrap())["other"], "stays");
    assert_eq!(world.portal.requests("app"), 1);

    world.ask_anew("basemaps", "now").await;
    world.wait("basemaps", |r| support::fleet::handled(r, "now")).await;
    let second = token(&world).await;
    assert!(second != first && world.portal.tokens().contains(&second), "the key is not kept fresh");

    succeed(&mut commands(&world, "rollback", "30s"), "");
    assert_eq!(token(&world).await, second, "the Secret went with the resource, or lost its token");
    world.meddle("basemaps", json!({"stringData": {"token": "the job's again"}})).await;
    // A repair would come at once.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(token(&world).await, "the job's again");

    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(Option::is_some), "{} of {} versions lack the key", missing(&seen), seen.len());
    let mut order: Vec<&str> = seen.iter().flatten().map(String::as_str).collect();
    order.dedup();
    assert_eq!(order, [OLD, &first, &second, "the job's again"]);
}

fn missing(seen: &[Option<String>]) -> usize {
    seen.iter().filter(|token| token.is_none()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_controller_owns_is_handed_over_once_its_owner_has_gone_without_it() {
    let world = World::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
    succeed(&mut kubectl(&world, &["create", "-f", "-"]), &owner.to_string());
    let uid = succeed(&mut kubectl(&world, &["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]), "");
    legacy(&world, json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": true}]))
        .await;
    let seen = reader(&world);

    let handed_over = run(&mut commands(&world, "cronjob", "2s"), "");
    assert!(!handed_over.success, "it was taken from its controller");
    world.wait("basemaps", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    assert_eq!(token(&world).await, OLD);

    succeed(&mut kubectl(&world, &["delete", "configmap", "owner", "--cascade=orphan"]), "");
    world.wait("basemaps", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert!(world.portal.tokens().contains(&token(&world).await));
    assert!(seen.lock().unwrap().iter().all(Option::is_some));
}
