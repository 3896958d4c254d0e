//! Several operators in one environment, and what tests do to them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use arcgis_credential_operator::api::ArcGisAppCredential;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::process::Child;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::audit::AuditedCall;
use super::{TIMEOUT, TestEnv};

pub const LEASE: &str = "arcgis-credential-operator";
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
pub const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(20);
/// A requested renewal is handled no earlier than 5 s after the last token, whose time has whole seconds.
const MIN_GAP_MILLIS: i64 = 4000;

/// One of several operators in an environment.
pub struct Replica {
    pub child: Child,
    pub admin: SocketAddr,
}

impl Replica {
    /// Sends it a signal, such as TERM.
    pub async fn signal(&self, signal: &str) {
        testkit::signal(self.child.id().unwrap(), signal).await.unwrap();
    }

    /// Waits until it exits, and returns its exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        timeout(TIMEOUT, self.child.wait()).await.unwrap().unwrap().code()
    }
}

pub struct Fleet {
    pub env: TestEnv,
    pub lease_namespace: String,
    pub replicas: Vec<Replica>,
}

impl Fleet {
    /// Starts replicas with their own Lease, and the permissions of the manifests for it.
    #[track_caller]
    pub fn new(replicas: usize) -> impl Future<Output = Self> {
        let env = TestEnv::without_operator(&[]);
        async move {
            let env = env.await;
            let namespace = env.namespace.clone();
            grant(&env, &namespace).await;
            Self::with(env, namespace, replicas).await
        }
    }

    /// Starts two replicas, the second one behind a fault-injecting API proxy, once the first one leads.
    #[track_caller]
    pub fn with_standby_behind_proxy() -> impl Future<Output = Self> {
        let env = TestEnv::without_operator(&[]);
        async {
            let mut env = env.await;
            let proxied = env.add_api_proxy().await;
            let namespace = env.namespace.clone();
            grant(&env, &namespace).await;
            let mut fleet = Self::with(env, namespace, 1).await;
            fleet.wait_for_leader(&[0], TAKEOVER_TIMEOUT).await;
            fleet.add_replica(&proxied).await;
            fleet
        }
    }

    pub async fn with(env: TestEnv, lease_namespace: String, replicas: usize) -> Self {
        let mut fleet = Self { env, lease_namespace, replicas: Vec::new() };
        for _ in 0..replicas {
            fleet.add_replica(&TestEnv::restricted()).await;
        }
        fleet
    }

    /// Starts another replica, and waits until it is ready.
    pub async fn add_replica(&mut self, kubeconfig: &Path) {
        self.add_replica_within(kubeconfig, TAKEOVER_TIMEOUT).await;
    }

    /// The same within a time: a replica that leads is ready once it has listed everything.
    pub async fn add_replica_within(&mut self, kubeconfig: &Path, limit: Duration) {
        let flags = ["--lease-namespace".to_owned(), self.lease_namespace.clone()];
        let replica = self.env.replica(kubeconfig, &flags);
        poll_until("a replica is ready", limit, async || replica.is_ready().await.then_some(())).await;
        self.replicas.push(replica);
    }

    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.env.client.clone(), &self.lease_namespace)
    }

    pub async fn holder(&self) -> String {
        self.leases().get(LEASE).await.unwrap().spec.unwrap().holder_identity.unwrap()
    }

    /// Writes a holder into the Lease.
    pub async fn set_holder(&self, holder: &str) {
        let edit = json!({"spec": {"holderIdentity": holder}});
        self.leases().patch(LEASE, &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    }

    /// Waits until one of these leads; returns which one.
    pub async fn wait_for_leader(&self, among: &[usize], limit: Duration) -> usize {
        poll_until("one of them leads", limit, async || {
            for n in among {
                if self.replicas[*n].is_leader().await == Some(true) {
                    return Some(*n);
                }
            }
            None
        })
        .await
    }

    pub async fn wait_for_standby(&self, n: usize, limit: Duration) {
        let standby = async || (self.replicas[n].is_leader().await == Some(false)).then_some(());
        poll_until("it is a standby", limit, standby).await;
        assert!(self.replicas[n].is_ready().await, "a replica that does not lead is ready");
    }

    /// Creates a resource and an app with this name, and waits for its token.
    pub async fn ready(&self, name: &str) {
        self.env.ready(name).await;
    }

    /// Requests new tokens repeatedly, so that the leader acts as often as it may.
    pub fn request_repeatedly(&self, names: &'static [&'static str]) -> RequestLoop {
        let resources = self.env.resources();
        let requests = async move {
            for mark in 0.. {
                let mark = format!("work-{mark}");
                let requested = json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": mark}}});
                for name in names {
                    let _ = resources.patch(name, &PatchParams::default(), &Patch::Merge(&requested)).await;
                }
                // The interval between the requests.
                sleep(Duration::from_millis(700)).await;
            }
        };
        RequestLoop(tokio::spawn(requests).abort_handle())
    }

    pub async fn wait_for_requests(&self, name: &str, count: usize, limit: Duration) {
        self.env.portal.wait_for_requests(name, count, limit).await.unwrap();
    }

    pub fn requests(&self, name: &str) -> usize {
        self.env.portal.requests(name)
    }

    /// Asserts that no two requests of a resource are closer than the minimum interval.
    pub fn assert_one_at_a_time(&self, names: &[&str]) {
        for name in names {
            let journal = self.env.portal.journal();
            let sent: Vec<_> = journal.iter().filter(|entry| entry.client_id == *name).map(|entry| entry.at).collect();
            let gaps: Vec<_> = sent.windows(2).map(|two| two[1].duration_since(two[0]).as_millis()).collect();
            assert!(gaps.iter().all(|gap| *gap >= i128::from(MIN_GAP_MILLIS)), "{name}: {gaps:?}");
        }
    }

    /// Returns the operators' calls about single objects.
    pub fn calls(&self) -> Vec<AuditedCall> {
        let mut calls = self.env.calls();
        calls.retain(|(verb, ..)| verb != "list" && verb != "watch");
        calls
    }

    pub async fn assert_running(&mut self, n: usize) {
        assert!(self.replicas[n].child.try_wait().unwrap().is_none(), "no process exits unexpectedly");
        assert!(self.replicas[n].is_ready().await);
    }
}

pub struct RequestLoop(AbortHandle);

impl Drop for RequestLoop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub fn handled(resource: &ArcGisAppCredential, mark: &str) -> bool {
    resource.status.as_ref().is_some_and(|status| status.last_handled_request.as_deref() == Some(mark))
}

/// Polls until a result is found.
pub async fn poll_until<T>(what: &str, limit: Duration, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Grants the permissions of the manifests for the Lease, in another namespace.
pub async fn grant(env: &TestEnv, namespace: &str) {
    let text = include_str!("../../deploy/kustomize/base/rbac.yaml");
    let params = PatchParams::apply("administrator").force();
    for document in text.split("\n---\n") {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
        let metadata = format!("  name: arcgis-credential-operator\n  namespace: {namespace}\n");
        let document = document.replacen(
            "  name: arcgis-credential-operator\n  namespace: arcgis-credential-operator\n",
            &metadata,
            1,
        );
        match kind {
            "Role" => {
                let role: Role = serde_saphyr::from_str(&document).unwrap();
                let api = Api::<Role>::namespaced(env.client.clone(), namespace);
                api.patch(LEASE, &params, &Patch::Apply(&role)).await.unwrap();
            }
            "RoleBinding" => {
                let binding: RoleBinding = serde_saphyr::from_str(&document).unwrap();
                let api = Api::<RoleBinding>::namespaced(env.client.clone(), namespace);
                api.patch(LEASE, &params, &Patch::Apply(&binding)).await.unwrap();
            }
            _ => {}
        }
    }
}
