//! The environment of one test: a namespace, a test portal, and the operator with only the permissions of its
//! manifests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod admin;
pub mod audit;
pub mod canaries;
pub mod exchange;
pub mod fences;
pub mod fleet;
mod kstatus;
pub mod link;
pub mod mode;
mod objects;
pub mod packages;
pub mod policy;
pub mod tinyproxy;
pub mod tools;

use std::net::SocketAddr;
use std::panic::Location;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use testkit::api_proxy::ApiProxy;
use testkit::control_plane::{ControlPlane, client};
use testkit::portal::{App, Certificate, Portal};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub use objects::*;

use audit::AuditLog;
use fleet::{Replica, grant, poll_until};
use mode::Mode;

/// A part of every client secret in these tests, correct or wrong.
pub const SECRET_CANARY: &str = "canary-client-secret";
pub const SECRET: &str = "canary-client-secret-0123456789";
pub const WRONG_SECRET: &str = "canary-client-secret-that-is-wrong";
const TIMEOUT: Duration = Duration::from_secs(20);
/// An operator that was killed has left a Lease, which must end first.
const LEADS: Duration = Duration::from_secs(40);
/// What an operator writes when it begins to lead.
const LEADING: &str = "\"message\":\"leading\"";
/// The label of a test's resources, with its namespace as the value.
const LABEL: &str = "tests.example.com/environment";
static SERIAL: AtomicU32 = AtomicU32::new(0);
static RESTRICTED: OnceCell<Restricted> = OnceCell::const_new();

/// The operator's service account, which has only the permissions of the manifests.
#[derive(Clone)]
struct Restricted {
    token: String,
    kubeconfig: PathBuf,
}

pub struct TestEnv {
    pub plane: ControlPlane,
    pub portal: Portal,
    pub client: Client,
    pub namespace: String,
    pub operator: Option<Child>,
    /// The program that is started as the operator.
    pub program: PathBuf,
    pub admin: SocketAddr,
    audit: AuditLog,
    mode: Mode,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    restricted: Restricted,
    api_proxy: Option<(ApiProxy, PathBuf)>,
}

impl TestEnv {
    /// Starts the operator, in the mode of the calling test.
    #[track_caller]
    pub fn new() -> impl Future<Output = Self> {
        Self::with_flags(&[])
    }

    /// Starts the operator with additional flags.
    #[track_caller]
    pub fn with_flags(flags: &[&str]) -> impl Future<Output = Self> {
        started(Self::without_operator(flags))
    }

    /// Starts the operator behind a fault-injecting API proxy.
    #[track_caller]
    pub fn with_api_proxy() -> impl Future<Output = Self> {
        started(Self::without_operator_with_api_proxy())
    }

    /// Creates the same environment without starting the operator.
    #[track_caller]
    pub fn without_operator_with_api_proxy() -> impl Future<Output = Self> {
        let env = Self::without_operator(&[]);
        async {
            let mut env = env.await;
            env.add_api_proxy().await;
            env
        }
    }

    /// Starts a fault-injecting API proxy; returns the kubeconfig that connects through it.
    pub async fn add_api_proxy(&mut self) -> PathBuf {
        let api_proxy = ApiProxy::start(&self.plane).await.unwrap();
        let name = format!("{}-api-proxy", self.namespace);
        let path = api_proxy.kubeconfig(&self.plane, &name, &self.restricted.token).unwrap();
        self.api_proxy = Some((api_proxy, path.clone()));
        path
    }

    /// Returns the proxy of an environment that has one.
    pub fn api_proxy(&self) -> &ApiProxy {
        &self.api_proxy.as_ref().unwrap().0
    }

    /// Creates an environment without starting the operator.
    #[track_caller]
    pub fn without_operator(flags: &[&str]) -> impl Future<Output = Self> {
        let mode = Mode::of(Location::caller());
        async move {
            let plane = ControlPlane::from_env().unwrap();
            let restricted = RESTRICTED.get_or_init(|| install(&plane)).await.clone();
            Box::pin(Self::prepare(plane, restricted, mode, flags)).await
        }
    }

    /// Creates an environment on a separate control plane.
    #[track_caller]
    pub fn on(plane: ControlPlane, flags: &[&str]) -> impl Future<Output = Self> {
        started(Self::on_without_operator(plane, flags))
    }

    /// Creates the same environment without starting the operator.
    #[track_caller]
    pub fn on_without_operator(plane: ControlPlane, flags: &[&str]) -> impl Future<Output = Self> {
        let mode = Mode::of(Location::caller());
        async move {
            let restricted = install(&plane).await;
            Box::pin(Self::prepare(plane, restricted, mode, flags)).await
        }
    }

    /// Creates an environment on a control plane of its own.
    #[track_caller]
    pub fn alone_without_operator() -> impl Future<Output = Self> {
        let mode = Mode::of(Location::caller());
        async move {
            let bin = ControlPlane::from_env().unwrap().bin();
            let plane = ControlPlane::start(&bin, None, false).await.unwrap();
            let restricted = install(&plane).await;
            Box::pin(Self::prepare(plane, restricted, mode, &[])).await
        }
    }

    /// Stops the operator and the separate control plane.
    pub async fn end(mut self) {
        self.kill().await;
        self.plane.stop().await;
    }

    async fn prepare(plane: ControlPlane, restricted: Restricted, mode: Mode, flags: &[&str]) -> Self {
        let client = client(&plane.kubeconfig()).await.unwrap();
        let namespace = format!("t{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let body = serde_json::from_value::<Namespace>(json!({"metadata": {"name": namespace}})).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &body).await.unwrap();
        let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
        portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
        let admin = free_address();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let audit = AuditLog::new(plane.audit_log(), namespace.clone());
        let env = Self {
            plane,
            portal,
            client,
            namespace,
            audit,
            operator: None,
            program: env!("CARGO_BIN_EXE_arcgis-credential-operator").into(),
            admin,
            mode,
            flags,
            variables: Vec::new(),
            restricted,
            api_proxy: None,
        };
        if mode == Mode::Default {
            grant(&env, &env.namespace).await;
        }
        env
    }

    /// Sets an environment variable of the operator, from its next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the operator, and waits until it is ready and acts.
    pub async fn start(&mut self) {
        let logged = std::fs::read_to_string(self.log_file()).map_or(0, |log| log.len());
        self.start_without_waiting();
        self.wait_until_ready().await;
        if self.mode == Mode::Default {
            // Not from the metrics: the next that a test reads would be as old as these.
            poll_until("the operator leads", LEADS, async || self.log()[logged..].contains(LEADING).then_some(()))
                .await;
        }
    }

    /// Starts the operator, and does not wait until it is ready.
    pub fn start_without_waiting(&mut self) {
        let kubeconfig = self.api_proxy.as_ref().map_or(&self.restricted.kubeconfig, |(_, path)| path).clone();
        self.start_with_kubeconfig(&kubeconfig);
    }

    /// Returns the file of `--ca-file`.
    pub fn ca_file(&self) -> PathBuf {
        self.plane.dir().join(format!("{}-ca.pem", self.namespace))
    }

    /// Returns the log of the operators of this environment.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.plane.dir().join(format!("logs/{}.log", self.namespace))
    }

    /// Returns a kubeconfig with the operator's permissions in this namespace alone.
    pub async fn account_of_one_namespace(&self) -> PathBuf {
        let account = json!({"metadata": {"name": "only-here"}});
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), &self.namespace);
        accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
        let binding = json!({
            "metadata": {"name": "only-here"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": "arcgis-credential-operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "only-here", "namespace": self.namespace}],
        });
        let bindings = Api::<RoleBinding>::namespaced(self.client.clone(), &self.namespace);
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
        let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let token = accounts.create_token_request("only-here", &PostParams::default(), &request).await.unwrap();
        self.plane.kubeconfig_for(&format!("{}-only", self.namespace), &token.status.unwrap().token).unwrap()
    }

    /// Returns the service account's kubeconfig on the control plane of this environment.
    pub fn kubeconfig(&self) -> PathBuf {
        self.restricted.kubeconfig.clone()
    }

    /// Returns the service account's kubeconfig.
    pub fn restricted() -> PathBuf {
        RESTRICTED.get().unwrap().kubeconfig.clone()
    }

    /// Starts the operator with this kubeconfig.
    pub fn start_with_kubeconfig(&mut self, kubeconfig: &std::path::Path) {
        let mut flags = self.election();
        flags.extend(self.flags.clone());
        self.operator = Some(self.spawn(kubeconfig, self.admin, &flags));
    }

    /// Returns the flags about the election of a leader.
    fn election(&self) -> Vec<String> {
        match self.mode {
            Mode::Default => vec!["--lease-namespace".to_owned(), self.namespace.clone()],
            Mode::OneNamespace => vec!["--leader-elect=false".to_owned()],
        }
    }

    /// Returns the flags that leave the resources of other tests alone.
    fn scope(&self) -> [String; 2] {
        match self.mode {
            Mode::Default => ["--selector".to_owned(), format!("{LABEL}={}", self.namespace)],
            Mode::OneNamespace => ["--namespace".to_owned(), self.namespace.clone()],
        }
    }

    /// Starts the operator with this standard output.
    pub fn start_with_output(&mut self, output: Stdio) {
        let mut command = self.command(&self.restricted.kubeconfig, self.admin, &self.election());
        self.operator = Some(command.stdout(output).spawn().unwrap());
    }

    /// Starts another operator, with these flags.
    pub fn replica(&self, kubeconfig: &std::path::Path, flags: &[String]) -> Replica {
        let admin = free_address();
        Replica { child: self.spawn(kubeconfig, admin, flags), admin }
    }

    fn spawn(&self, kubeconfig: &std::path::Path, admin: SocketAddr, flags: &[String]) -> Child {
        self.command(kubeconfig, admin, flags).spawn().unwrap()
    }

    fn command(&self, kubeconfig: &std::path::Path, admin: SocketAddr, flags: &[String]) -> Command {
        let ca = self.ca_file();
        // Operators that run read it at any moment, so it is written once.
        if !ca.exists() {
            std::fs::write(&ca, self.portal.ca()).unwrap();
        }
        // All tests share one folder of logs, because a test searches all of them.
        std::fs::create_dir_all(self.plane.dir().join("logs")).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--log-level=trace"])
            .args(self.scope())
            .args(["--allowed-portal", &self.portal.url(), "--ca-file"])
            .arg(ca)
            .args(["--admin-address", &admin.to_string()])
            .args(flags)
            .env("KUBECONFIG", kubeconfig)
            .envs(self.variables.clone())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Kills the operator with SIGKILL.
    pub async fn kill(&mut self) {
        self.operator.take().unwrap().kill().await.unwrap();
    }

    /// Sends SIGTERM to the operator, and returns its exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        let mut child = self.operator.take().unwrap();
        testkit::signal(child.id().unwrap(), "TERM").await.unwrap();
        timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap().code()
    }
}

async fn started(env: impl Future<Output = TestEnv>) -> TestEnv {
    let mut env = env.await;
    env.start().await;
    env
}

/// Returns the peak of a process's memory in bytes; `None` after its end.
pub fn peak_memory(process: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

pub fn free_address() -> SocketAddr {
    testkit::free_address().unwrap()
}

/// Installs the CRD and the permissions of the manifests, and writes a kubeconfig of the service account.
async fn install(plane: &ControlPlane) -> Restricted {
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize/base");
    let token = plane.install(base.as_ref()).await.unwrap();
    let kubeconfig = plane.kubeconfig_for(&format!("restricted-{}", std::process::id()), &token).unwrap();
    Restricted { token, kubeconfig }
}
