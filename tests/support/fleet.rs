//! Several operators in one env, and what can be done to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arcgis_credential_operator::api::ArcGisAppCredential;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::{SOON, TestEnv, ask};

pub const LEASE: &str = "arcgis-credential-operator";
pub const HANDED_OVER: Duration = Duration::from_secs(5);
pub const REPLACED: Duration = Duration::from_secs(20);
/// A person's mark is followed after 5 s, counted from a time in whole seconds.
const FLOOR_MILLIS: i64 = 4000;

/// One of several operators in a env.
pub struct Replica {
    pub child: Child,
    pub admin: SocketAddr,
}

impl Replica {
    /// Sends it a signal, such as TERM.
    pub async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub async fn exit_code(&mut self) -> Option<i32> {
        timeout(SOON, self.child.wait()).await.unwrap().unwrap().code()
    }

    /// Whether `/metrics` says that it acts; `None`: no answer.
    pub async fn leads(&self) -> Option<bool> {
        let answer = self.ask("/metrics").await?;
        let line = answer.lines().find(|line| line.starts_with("arcgis_credential_leader "))?;
        Some(line.ends_with(" 1"))
    }

    pub async fn ask(&self, path: &str) -> Option<String> {
        timeout(Duration::from_secs(1), ask(self.admin, path)).await.ok()?
    }

    pub async fn is_ready(&self) -> bool {
        self.ask("/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

pub struct Fleet {
    pub env: TestEnv,
    pub lease_namespace: String,
    pub replicas: Vec<Replica>,
}

impl Fleet {
    /// Replicas with a Lease of their own, and the shipped rights to it.
    pub async fn new(replicas: usize) -> Self {
        let env = TestEnv::idle(&[]).await;
        let namespace = env.namespace.clone();
        grant(&env, &namespace).await;
        Self::with(env, namespace, replicas).await
    }

    pub async fn with(env: TestEnv, lease_namespace: String, replicas: usize) -> Self {
        let mut fleet = Self { env, lease_namespace, replicas: Vec::new() };
        for _ in 0..replicas {
            fleet.join(&TestEnv::restricted()).await;
        }
        fleet
    }

    /// Starts one more, and waits until it is ready.
    pub async fn join(&mut self, kubeconfig: &Path) {
        let flags = ["--lease-namespace".to_owned(), self.lease_namespace.clone()];
        let replica = self.env.replica(kubeconfig, &flags);
        until("a replica is ready", REPLACED, async || replica.is_ready().await.then_some(())).await;
        self.replicas.push(replica);
    }

    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.env.client.clone(), &self.lease_namespace)
    }

    pub async fn holder(&self) -> String {
        self.leases().get(LEASE).await.unwrap().spec.unwrap().holder_identity.unwrap()
    }

    /// Writes a holder into the Lease by hand.
    pub async fn steal(&self, holder: &str) {
        let edit = json!({"spec": {"holderIdentity": holder}});
        self.leases().patch(LEASE, &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    }

    /// Waits until one of these leads.
    pub async fn leader(&self, among: &[usize], limit: Duration) -> usize {
        until("one leads", limit, async || {
            for n in among {
                if self.replicas[*n].leads().await == Some(true) {
                    return Some(*n);
                }
            }
            None
        })
        .await
    }

    pub async fn stands_by(&self, n: usize, limit: Duration) {
        let stands_by = async || (self.replicas[n].leads().await == Some(false)).then_some(());
        until("it stands by", limit, stands_by).await;
        assert!(self.replicas[n].is_ready().await, "a replica that does not lead is ready");
    }

    /// Creates a resource of this name, whose app has this name too, and waits for its token.
    pub async fn ready(&self, name: &str) {
        self.env.ready(name).await;
    }

    /// Wishes for new tokens without a pause, so that whoever may acts as often as it may.
    pub fn work(&self, names: &'static [&'static str]) -> Work {
        let resources = self.env.resources();
        let wishing = async move {
            for mark in 0.. {
                let mark = format!("work-{mark}");
                let asked = json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": mark}}});
                for name in names {
                    let _ = resources.patch(name, &PatchParams::default(), &Patch::Merge(&asked)).await;
                }
                // That is the pace of the work.
                sleep(Duration::from_millis(700)).await;
            }
        };
        Work(tokio::spawn(wishing).abort_handle())
    }

    pub async fn requested(&self, name: &str, count: usize, limit: Duration) {
        self.env.portal.wait_for_requests(name, count, limit).await.unwrap();
    }

    pub fn requests(&self, name: &str) -> usize {
        self.env.portal.requests(name)
    }

    /// No two requests of a resource are closer than they may be.
    pub fn assert_one_at_a_time(&self, names: &[&str]) {
        for name in names {
            let journal = self.env.portal.journal();
            let sent: Vec<_> = journal.iter().filter(|entry| entry.client_id == *name).map(|entry| entry.at).collect();
            let gaps: Vec<_> = sent.windows(2).map(|two| two[1].duration_since(two[0]).as_millis()).collect();
            assert!(gaps.iter().all(|gap| *gap >= i128::from(FLOOR_MILLIS)), "{name}: {gaps:?}");
        }
    }

    /// The operators' calls about single objects, the lease apart.
    pub fn calls(&self) -> Vec<(String, String, String, bool)> {
        let mut calls = self.env.calls();
        calls.retain(|(verb, resource, ..)| verb != "list" && verb != "watch" && resource != "leases");
        calls
    }

    pub async fn assert_runs(&mut self, n: usize) {
        assert!(self.replicas[n].child.try_wait().unwrap().is_none(), "no process ends by accident");
        assert!(self.replicas[n].is_ready().await);
    }
}

pub struct Work(AbortHandle);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub fn handled(resource: &ArcGisAppCredential, mark: &str) -> bool {
    resource.status.as_ref().is_some_and(|status| status.last_handled_request.as_deref() == Some(mark))
}

/// Waits for what only asking tells.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The shipped rights to the Lease, in another namespace.
pub async fn grant(env: &TestEnv, namespace: &str) {
    let text = include_str!("../../deploy/kustomize/base/rbac.yaml");
    for document in text.split("\n---\n") {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
        let metadata = format!("  name: arcgis-credential-operator\n  namespace: {namespace}\n");
        let moved = document.replacen(
            "  name: arcgis-credential-operator\n  namespace: arcgis-credential-operator\n",
            &metadata,
            1,
        );
        match kind {
            "Role" => {
                let role: Role = serde_saphyr::from_str(&moved).unwrap();
                Api::namespaced(env.client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
            }
            "RoleBinding" => {
                let binding: RoleBinding = serde_saphyr::from_str(&moved).unwrap();
                let api = Api::namespaced(env.client.clone(), namespace);
                api.create(&PostParams::default(), &binding).await.unwrap();
            }
            _ => {}
        }
    }
}

/// The way to the API server, which can be cut: nothing passes then, and nothing is refused.
pub struct Wire {
    pub kubeconfig: PathBuf,
    cut: tokio::sync::watch::Sender<bool>,
}

impl Wire {
    pub async fn lay(env: &TestEnv) -> Self {
        let server = std::fs::read_to_string(env.plane.dir().join("server")).unwrap();
        let address = server.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = format!("https://{}", listener.local_addr().unwrap());
        let kubeconfig = env.plane.dir().join(format!("{}-wire", env.namespace));
        let text = std::fs::read_to_string(TestEnv::restricted()).unwrap();
        std::fs::write(&kubeconfig, text.replace(&server, &here)).unwrap();
        let cut = tokio::sync::watch::channel(false).0;
        let cuts = cut.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut cuts, address) = (cuts.clone(), address.clone());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(address).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.wait_for(|cut| *cut) => {}
                    }
                    // What is cut hangs until it is mended, and is then found broken.
                    let _ = cuts.wait_for(|cut| !*cut).await;
                });
            }
        });
        Self { kubeconfig, cut }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}
