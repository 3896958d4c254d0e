//! The commands of docs/migration.md: a Secret is handed over and back, and its key is never missing for readers.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::fences::script;
use crate::support::tools::{run, succeed};
use crate::support::{SECRET, TestEnv, is, text};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use serde_json::json;
use testkit::portal::App;

const OLD: &str = "a-token-that-the-job-has-written";

/// Returns the document's commands for this environment's namespace and portal.
fn commands(env: &TestEnv, part: &str, timeout: &str) -> Command {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migration.md");
    let files = env.plane.dir().join(format!("{}-app", env.namespace));
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("id"), "app").unwrap();
    std::fs::write(files.join("secret"), SECRET).unwrap();
    let text = script(&document, part)
        .replace("--timeout=30s", &format!("--timeout={timeout}"))
        .replace("-n maps ", &format!("-n {} ", env.namespace))
        .replace("\nspec:\n", &format!("\nspec:\n  portal: {{url: \"{}\"}}\n", env.portal.url()));
    let path = format!("{}:{}", env.plane.bin().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", &text]).env("PATH", path).env("KUBECONFIG", env.plane.kubeconfig());
    command.env("CLIENT_ID_FILE", files.join("id")).env("CLIENT_SECRET_FILE", files.join("secret"));
    command
}

/// Creates a Secret of another owner, and the job that writes it.
async fn legacy(env: &TestEnv, owners: serde_json::Value) {
    let secret = json!({"metadata": {"name": "roads", "ownerReferences": owners},
                        "stringData": {"token": OLD, "other": "stays"}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    env.secrets().create(&kube::api::PostParams::default(), &secret).await.unwrap();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "token-refresh"},
        "spec": {"schedule": "*/30 * * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "job", "image": "registry.example.com/job"}]}}}}},
    });
    succeed(&mut kubectl(env, &["create", "-f", "-"]), &job.to_string());
    env.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
}

fn kubectl(env: &TestEnv, arguments: &[&str]) -> Command {
    let mut command = Command::new(env.plane.tool("kubectl"));
    command.env("KUBECONFIG", env.plane.kubeconfig()).args(["-n", &env.namespace]).args(arguments);
    command
}

/// Records what a reader sees under the key `token` in each version; `None` if there is no Secret or no key.
fn reader(env: &TestEnv) -> Arc<Mutex<Vec<Option<String>>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (secrets, sink) = (env.secrets(), seen.clone());
    tokio::spawn(async move {
        let config = watcher::Config::default().fields("metadata.name=roads");
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

async fn token(env: &TestEnv) -> String {
    text(&env.secrets().get("roads").await.unwrap())["token"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_a_cron_job_is_handed_over_and_back_and_its_key_is_never_missing() {
    let env = TestEnv::new().await;
    legacy(&env, json!([])).await;
    let seen = reader(&env);

    succeed(&mut commands(&env, "cronjob", "30s"), "");
    let first = token(&env).await;
    assert!(env.portal.tokens().contains(&first), "the key still holds the job's token");
    assert_eq!(text(&env.secrets().get("roads").await.unwrap())["other"], "stays");
    assert_eq!(env.portal.requests("app"), 1);

    env.request_token("roads", "now").await;
    env.wait("roads", |r| crate::support::fleet::handled(r, "now")).await;
    let second = token(&env).await;
    assert!(second != first && env.portal.tokens().contains(&second), "the key was not updated");

    succeed(&mut commands(&env, "rollback", "30s"), "");
    assert_eq!(token(&env).await, second, "the Secret was deleted with the resource, or lost its token");
    env.edit_secret("roads", json!({"stringData": {"token": "a-later-token-of-the-job"}})).await;
    // A repair would be immediate.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(token(&env).await, "a-later-token-of-the-job");

    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(Option::is_some), "{} of {} versions lack the key", missing(&seen), seen.len());
    let mut order: Vec<&str> = seen.iter().flatten().map(String::as_str).collect();
    order.dedup();
    assert_eq!(order, [OLD, &first, &second, "a-later-token-of-the-job"]);
}

fn missing(seen: &[Option<String>]) -> usize {
    seen.iter().filter(|token| token.is_none()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_a_controller_is_handed_over_after_its_owner_was_deleted_with_orphaning() {
    let env = TestEnv::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
    succeed(&mut kubectl(&env, &["create", "-f", "-"]), &owner.to_string());
    let uid = succeed(&mut kubectl(&env, &["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]), "");
    legacy(&env, json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": true}]))
        .await;
    let seen = reader(&env);

    let handed_over = run(&mut commands(&env, "cronjob", "2s"), "");
    assert!(!handed_over.success, "it was taken from its controller");
    env.wait("roads", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    assert_eq!(token(&env).await, OLD);

    succeed(&mut kubectl(&env, &["delete", "configmap", "owner", "--cascade=orphan"]), "");
    env.wait("roads", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert!(env.portal.tokens().contains(&token(&env).await));
    assert!(seen.lock().unwrap().iter().all(Option::is_some));
}
