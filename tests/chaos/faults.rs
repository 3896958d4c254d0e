//! How each fault is injected and ended.

mod connections;
mod portal;

use std::time::Duration;

use fastrand::Rng;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testkit::control_plane::Program;
use tokio::time::{sleep, timeout};

use crate::checks::Window;
use crate::plan::{Fault, Planned, Subject};
use crate::stage::{Stage, name, now};
use crate::support::policy::{denied_targets, exhausted_quota, put, put_quota, remove};
use crate::support::{SECRET, WRONG_SECRET};

/// Longer than a Lease lasts, so that the other replica takes over.
const OUTLASTS_THE_LEASE: Duration = Duration::from_secs(14);
/// An API server waits up to a minute for its watches to end.
const GRACE: Duration = Duration::from_secs(10);
/// How often other controllers write an annotation.
const ANNOTATED: Duration = Duration::from_millis(500);

/// The resources that users change, in an order that depends on the seed.
pub struct Chosen(Vec<usize>);

impl Chosen {
    pub fn new(rng: &mut Rng, size: usize) -> Self {
        let mut order: Vec<usize> = (0..size).collect();
        rng.shuffle(&mut order);
        Self(order)
    }

    /// Takes the next of them, because repairs of one target are limited.
    pub fn take(&mut self, fault: Fault) -> Vec<usize> {
        let count = match fault {
            Fault::QuotaExceeded => 3,
            fault if fault.subject() == Subject::Users => 5,
            _ => 0,
        };
        let taken: Vec<usize> = self.0.drain(..count).collect();
        self.0.extend(&taken);
        taken
    }
}

/// Injects a fault, ends it, and records when it was in force. `these` are the resources that users change.
pub async fn inject(stage: &Stage, planned: &Planned, these: &[usize]) {
    sleep(planned.after).await;
    let (fault, lasts, from) = (planned.fault, planned.lasts, now());
    match fault.subject() {
        Subject::ControlPlane => control_plane(stage, fault, lasts).await,
        Subject::Connections => connections::inject(stage, fault, lasts).await,
        Subject::Replicas => replicas(stage, fault, lasts).await,
        Subject::Rules => rules(stage, fault, lasts, these).await,
        Subject::Portal => portal::inject(stage, fault, lasts).await,
        Subject::Users => users(stage, fault, lasts, these).await,
    }
    let only = if fault.subject() == Subject::Users { these.to_vec() } else { Vec::new() };
    let window = Window { fault, from, to: now(), only };
    stage.record.lock().unwrap().windows.push(window);
}

async fn control_plane(stage: &Stage, fault: Fault, lasts: Duration) {
    let plane = &stage.env.plane;
    let result = match fault {
        Fault::ApiServerFrozen => {
            let frozen = plane.signal(Program::ApiServer, "STOP").await;
            sleep(lasts).await;
            frozen.and(plane.signal(Program::ApiServer, "CONT").await)
        }
        Fault::EtcdRestarted => restart(stage, Program::Etcd, "TERM", lasts / 2).await,
        Fault::EtcdCompacted => match plane.compact().await {
            // Its cache is empty after the restart: watches of versions before it are answered with 410.
            Ok(()) => restart(stage, Program::ApiServer, "KILL", Duration::ZERO).await,
            failed => failed,
        },
        Fault::EtcdRestored => restore(stage, lasts).await,
        Fault::ApiServerRestarted => restart(stage, Program::ApiServer, "TERM", Duration::ZERO).await,
        _ => restart(stage, Program::ApiServer, "KILL", lasts).await,
    };
    if let Err(error) = result {
        stage.problem(format!("{fault:?}: {error}"));
    }
}

async fn restart(stage: &Stage, program: Program, signal: &str, down: Duration) -> Result<(), testkit::Error> {
    stage.env.plane.end(program, signal, GRACE).await?;
    sleep(down).await;
    stage.env.plane.start_again(program).await
}

async fn restore(stage: &Stage, after: Duration) -> Result<(), testkit::Error> {
    stage.env.plane.back_up().await?;
    sleep(after).await;
    stage.env.plane.restore().await?;
    stage.restored.send_replace(());
    Ok(())
}

/// Returns which replica leads; while nobody knows, the first.
async fn leader(stage: &Stage) -> usize {
    for (n, replica) in stage.replicas.lock().await.iter().enumerate() {
        if replica.is_leader().await == Some(true) {
            return n;
        }
    }
    0
}

async fn replicas(stage: &Stage, fault: Fault, lasts: Duration) {
    let n = leader(stage).await;
    match fault {
        Fault::LeaderCutOff => {
            stage.links[n].cut(true);
            sleep(lasts.max(OUTLASTS_THE_LEASE)).await;
            stage.links[n].cut(false);
        }
        Fault::LeaderPaused => {
            stage.replicas.lock().await[n].signal("STOP").await;
            sleep(lasts.max(OUTLASTS_THE_LEASE)).await;
            stage.replicas.lock().await[n].signal("CONT").await;
        }
        _ => {
            {
                let mut replicas = stage.replicas.lock().await;
                replicas[n].child.kill().await.unwrap();
                // The kubelet would start it again.
                replicas[n] = stage.start_replica(n);
            }
            sleep(lasts).await;
        }
    }
}

async fn rules(stage: &Stage, fault: Fault, lasts: Duration, these: &[usize]) {
    let client = &stage.env.client;
    match fault {
        Fault::PolicyDenies => {
            let objects = denied_targets(&stage.env.namespace);
            for object in &objects {
                stage.persist("a policy", async || put(client, object).await).await;
            }
            sleep(lasts).await;
            for object in objects.iter().rev() {
                stage.persist("no policy", async || remove(client, object).await).await;
            }
        }
        Fault::QuotaExceeded => {
            let quota = exhausted_quota(&stage.env.namespace);
            stage.persist("a quota", async || put_quota(client, &quota).await).await;
            stage.each(these.iter().copied(), async |n| delete_target(stage, n).await).await;
            sleep(lasts).await;
            stage.persist("no quota", async || remove(client, &quota).await).await;
        }
        _ => {
            let binding = binding();
            stage.persist("no permissions", async || remove(client, &binding).await).await;
            sleep(lasts).await;
            stage.persist("permissions", async || put(client, &binding).await).await;
        }
    }
}

/// Returns the binding of the manifests that gives the operator its permissions.
fn binding() -> Value {
    let text = include_str!("../../deploy/kustomize/base/rbac.yaml");
    let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    documents.into_iter().find(|document| document["kind"] == "ClusterRoleBinding").unwrap()
}

async fn users(stage: &Stage, fault: Fault, lasts: Duration, these: &[usize]) {
    match fault {
        Fault::TargetsDeleted => stage.each(these.iter().copied(), async |n| delete_target(stage, n).await).await,
        Fault::TargetsEdited => stage.each(these.iter().copied(), async |n| edit_target(stage, n).await).await,
        Fault::SecretsAnnotated => {
            let annotate = async || {
                for mark in 0.. {
                    stage.each(these.iter().copied(), async |n| annotate(stage, n, mark).await).await;
                    sleep(ANNOTATED).await;
                }
            };
            // Its end is the time-out.
            let _ = timeout(lasts, annotate()).await;
        }
        Fault::CredentialsDeleted => {
            let delete = async |n| {
                stage.touch(n, false);
                delete_secret(stage, &format!("{}-oauth", name(n))).await;
            };
            stage.each(these.iter().copied(), delete).await;
            sleep(lasts).await;
            stage.each(these.iter().copied(), async |n| write_credentials(stage, n, SECRET).await).await;
        }
        _ => {
            stage.each(these.iter().copied(), async |n| write_credentials(stage, n, WRONG_SECRET).await).await;
            sleep(lasts).await;
            stage.each(these.iter().copied(), async |n| write_credentials(stage, n, SECRET).await).await;
        }
    }
}

async fn write_credentials(stage: &Stage, n: usize, secret: &str) {
    let name = name(n);
    let (secrets, params) = (stage.env.secrets(), PatchParams::apply("user").force());
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-oauth")},
                      "stringData": {"client_id": name, "client_secret": secret}});
    stage.touch(n, false);
    let write = async || secrets.patch(&format!("{name}-oauth"), &params, &Patch::Apply(&body)).await;
    stage.persist("credentials", write).await;
    // The call may have been repeated for long.
    stage.touch(n, false);
}

/// Annotates target and credentials, as other controllers do. The operator has no reason to do anything.
async fn annotate(stage: &Stage, n: usize, mark: u32) {
    let change = json!({"metadata": {"annotations": {"example.com/touched": mark.to_string()}}});
    for kind in ["token", "oauth"] {
        let secret = format!("{}-{kind}", name(n));
        // One that hits another fault is made up for by the next.
        let _ = stage.env.secrets().patch(&secret, &PatchParams::default(), &Patch::Merge(&change)).await;
    }
}

async fn delete_secret(stage: &Stage, name: &str) {
    let metadata = json!({"name": name, "namespace": stage.env.namespace});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
    stage.persist("a deletion", async || remove(&stage.env.client, &secret).await).await;
}

async fn delete_target(stage: &Stage, n: usize) {
    stage.touch(n, false);
    delete_secret(stage, &format!("{}-token", name(n))).await;
    stage.touch(n, true);
}

/// Damages the token of every second target, and removes a key of the others.
async fn edit_target(stage: &Stage, n: usize) {
    let secrets = stage.env.secrets();
    let damages = n.is_multiple_of(2);
    let change = if damages {
        json!({"stringData": {"access_token": "damaged"}})
    } else {
        json!({"data": {"portal_url": null}})
    };
    stage.touch(n, false);
    let edit = async || {
        let edited =
            secrets.patch(&format!("{}-token", name(n)), &PatchParams::default(), &Patch::Merge(&change)).await;
        match edited {
            // It was deleted before.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            edited => edited.map(drop),
        }
    };
    stage.persist("an edit", edit).await;
    stage.touch(n, damages);
}
