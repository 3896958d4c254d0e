//! What a run takes place on: a control plane of its own, two replicas behind links and a proxy, and a fleet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arcgis_credential_operator::api::ArcGisAppCredential;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use serde_json::json;
use testkit::control_plane::ControlPlane;
use testkit::portal::{App, Certificate, Portal};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{sleep, timeout};

use crate::checks::{Call, Ms, Touch, Window};
use crate::support::fleet::{Replica, grant};
use crate::support::link::{ApiLink, Link};
use crate::support::{SECRET, TestEnv, is, peak_memory, text};

/// A call of the test itself is repeated until it succeeds, because it may hit a fault.
const CALL: Duration = Duration::from_secs(10);
/// On a busy machine, a list of the whole fleet takes long.
const LIST: Duration = Duration::from_secs(30);
const PERSIST: Duration = Duration::from_mins(3);
const CONCURRENCY: usize = 8;
/// How late a renewal may be.
const OVERDUE: Ms = 5_000;

/// What happened in a run.
#[derive(Default)]
pub struct Record {
    pub windows: Vec<Window>,
    pub touches: Vec<Touch>,
    pub limited: Vec<Call>,
    pub lists: Vec<Call>,
    pub problems: Vec<String>,
    /// The highest memory of a replica in bytes.
    pub peak: u64,
}

pub struct Stage {
    pub env: TestEnv,
    pub links: Vec<ApiLink>,
    pub portal_link: Link,
    /// A portal whose certificate is of another host.
    pub impostor: Portal,
    pub replicas: AsyncMutex<Vec<Replica>>,
    pub record: Arc<Mutex<Record>>,
    /// Changes when etcd was restored: what is watched since before then stays silent.
    pub restored: watch::Sender<()>,
    /// The granted lifetimes in seconds, by turns.
    lifetimes: Vec<u64>,
    pub size: usize,
}

pub fn now() -> Ms {
    Timestamp::now().as_millisecond()
}

impl Stage {
    /// Starts everything, and creates the fleet. Its files are kept in this folder.
    pub async fn new(bin: &Path, dir: PathBuf, size: usize, lifetimes: &[u64]) -> Self {
        let plane = ControlPlane::start(bin, Some(dir), false).await.unwrap();
        let mut env = TestEnv::on_without_operator(plane, &[]).await;
        grant(&env, &env.namespace.clone()).await;
        let kubeconfig = env.add_api_proxy().await;
        let address = "127.0.0.1:0".parse().unwrap();
        let mut links = Vec::new();
        for _ in 0..2 {
            links.push(ApiLink::start_for(&env, &kubeconfig).await);
        }
        let stage = Self {
            portal_link: Link::start(env.portal.address()).await,
            impostor: Portal::start(address, Certificate::WrongHost).await.unwrap(),
            links,
            replicas: AsyncMutex::default(),
            record: Arc::default(),
            restored: watch::channel(()).0,
            lifetimes: lifetimes.to_vec(),
            size,
            env,
        };
        for n in 0..2 {
            let replica = stage.start_replica(n);
            stage.replicas.lock().await.push(replica);
        }
        stage.each(0..size, async |n| stage.create(n).await).await;
        stage
    }

    /// Starts a replica behind its link.
    pub fn start_replica(&self, n: usize) -> Replica {
        let allowed = ["--allowed-portal".to_owned(), self.portal_url()];
        let lease = ["--lease-namespace".to_owned(), self.env.namespace.clone()];
        self.env.replica(&self.links[n].kubeconfig, &[allowed, lease].concat())
    }

    fn portal_url(&self) -> String {
        format!("https://localhost:{}", self.portal_link.port())
    }

    /// Returns the lifetime that the portal grants a resource.
    pub fn lifetime(&self, n: usize) -> Duration {
        Duration::from_secs(self.lifetimes[n % self.lifetimes.len()])
    }

    /// Returns how the portal answers a resource.
    pub fn app(&self, n: usize) -> App {
        App { secret: SECRET.to_owned(), lifetime: Some(self.lifetime(n).as_secs()), ..App::default() }
    }

    /// Changes how the portal answers everybody.
    pub fn answer_all(&self, change: impl Fn(App) -> App) {
        for n in 0..self.size {
            self.env.portal.app(&name(n), change(self.app(n)));
        }
    }

    async fn create(&self, n: usize) {
        let name = name(n);
        self.env.portal.app(&name, self.app(n));
        self.env.credentials(&format!("{name}-oauth"), &name, SECRET).await;
        let mut manifest = self.env.manifest(&name, &format!("{name}-oauth"));
        manifest["spec"]["portal"]["url"] = json!(self.portal_url());
        manifest["spec"]["verification"] = json!({"interval": "1m"});
        self.env.apply(&manifest).await;
    }

    /// Does something with each of these resources, several at once.
    pub async fn each(&self, these: impl IntoIterator<Item = usize>, act: impl AsyncFn(usize)) {
        let act = &act;
        stream::iter(these).for_each_concurrent(CONCURRENCY, |n| async move { act(n).await }).await;
    }

    /// Records that another writer changes objects of a resource now.
    pub fn touch(&self, resource: usize, destroys: bool) {
        self.record.lock().unwrap().touches.push(Touch { resource, at: now(), destroys });
    }

    /// Records what must not happen.
    pub fn problem(&self, problem: String) {
        let mut record = self.record.lock().unwrap();
        if !record.problems.contains(&problem) {
            record.problems.push(problem);
        }
    }

    /// Repeats a call until it succeeds.
    pub async fn persist<T>(&self, what: &str, call: impl AsyncFn() -> kube::Result<T>) {
        let started = tokio::time::Instant::now();
        while started.elapsed() < PERSIST {
            if let Ok(Ok(_)) = timeout(CALL, call()).await {
                return;
            }
            // Nothing can be awaited while the API server is down.
            sleep(Duration::from_millis(200)).await;
        }
        self.problem(format!("not within {PERSIST:?}: {what}"));
    }

    /// Observes both replicas and the control plane until dropped: no process may end by itself.
    pub async fn monitor(&self) {
        loop {
            for (n, replica) in self.replicas.lock().await.iter_mut().enumerate() {
                let peak = peak_memory(&replica.child).unwrap_or_default();
                if let Ok(Some(status)) = replica.child.try_wait() {
                    self.problem(format!("replica {n} ended by itself: {status}"));
                }
                let mut record = self.record.lock().unwrap();
                record.peak = record.peak.max(peak);
            }
            if let Some(ended) = self.env.plane.ended() {
                self.problem(ended);
            }
            // The interval of the samples.
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Describes what has not converged: every resource has a valid token and no failure, and one replica leads.
    pub async fn unsettled(&self) -> Option<String> {
        let list = ListParams::default();
        let listed = timeout(LIST, async {
            let resources = self.env.resources().list(&list).await?.items;
            Ok::<_, kube::Error>((resources, self.env.secrets().list(&list).await?.items))
        });
        let Ok(Ok((resources, secrets))) = listed.await else {
            return Some("the API server does not answer".to_owned());
        };
        let valid = self.valid_targets(&secrets);
        let mut open: Vec<String> = resources.iter().filter_map(|resource| unready(resource, &valid)).collect();
        let mut leaders = 0;
        for replica in self.replicas.lock().await.iter() {
            leaders += usize::from(replica.is_leader().await == Some(true));
        }
        if open.is_empty() && resources.len() == self.size && leaders == 1 {
            return None;
        }
        let count = open.len();
        open.truncate(5);
        Some(format!("{count} of {} resources, {leaders} leaders: {}", resources.len(), open.join("; ")))
    }

    /// Returns the names of the Secrets with a token that the portal has issued and that has not expired.
    fn valid_targets(&self, secrets: &[Secret]) -> BTreeSet<String> {
        let tokens: BTreeSet<String> = self.env.portal.tokens().into_iter().collect();
        let valid = |secret: &&Secret| {
            let text = text(secret);
            let expires = text.get("expires_at").and_then(|time| time.parse::<Timestamp>().ok());
            expires > Some(Timestamp::now()) && text.get("access_token").is_some_and(|token| tokens.contains(token))
        };
        secrets.iter().filter(valid).filter_map(|secret| secret.metadata.name.clone()).collect()
    }

    /// Ends everything.
    pub async fn end(self) {
        drop(self.replicas);
        self.env.plane.stop().await;
    }
}

/// Returns the name of a resource, and of its app.
pub fn name(n: usize) -> String {
    format!("r{n}")
}

/// Describes a resource that is not ready, has failed, has no valid token, or has one that should have been renewed. A
/// failure that could not be written yet is not in its status.
fn unready(resource: &ArcGisAppCredential, valid: &BTreeSet<String>) -> Option<String> {
    let name = resource.metadata.name.clone().unwrap_or_default();
    let status = resource.status.as_ref();
    let ready = is(resource, "Ready", "True", "TokenValid") && valid.contains(&format!("{name}-token"));
    let failure = status.and_then(|status| status.failure.as_ref());
    let due = status.and_then(|status| status.token.as_ref()).map(|token| token.renewal_time.as_millisecond());
    let overdue = due.is_none_or(|due| due + OVERDUE < now());
    (!ready || failure.is_some() || overdue).then(|| format!("{name}: ready {ready}, overdue {overdue}, {failure:?}"))
}
