//! A real kube-apiserver with etcd and controllers on loopback. They are stopped by their process IDs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use crate::processes::Processes;
pub use crate::processes::Program;
use crate::{Error, doing};

/// The environment variable that holds the folder of a running control plane.
pub const ENV: &str = "TESTKIT_CONTROL_PLANE";
const START: Duration = Duration::from_secs(90);
/// The time until a process that was told to end is killed.
const GRACE: Duration = Duration::from_secs(10);
/// The operator's service account, in the namespace of the same name.
const ACCOUNT: &str = "arcgis-credential-operator";
/// The user name of that account, as the audit log has it.
pub const USER: &str = "system:serviceaccount:arcgis-credential-operator:arcgis-credential-operator";
const CA: &str = "certs/apiserver.crt";
const ADMIN_TOKEN: &str = "admin";
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
    rules: [{level: Metadata}]\n";

/// A running control plane; dropping it kills its processes.
pub struct ControlPlane {
    dir: PathBuf,
    bin: PathBuf,
    processes: Processes,
    _own: Option<TempDir>,
}

impl ControlPlane {
    /// Starts a control plane from the binaries in `bin`.
    pub async fn start(bin: &Path, dir: Option<PathBuf>, guard_owners: bool) -> Result<Self, Error> {
        crate::init_crypto();
        let own = if dir.is_none() { Some(TempDir::new().map_err(doing("making a folder"))?) } else { None };
        let dir = dir.or_else(|| own.as_ref().map(|own| own.path().to_owned())).unwrap_or_default();
        std::fs::create_dir_all(&dir).map_err(doing("making a folder"))?;
        let plane = Self { dir, bin: bin.to_owned(), processes: Processes::default(), _own: own };
        let etcd = plane.start_etcd()?;
        plane.start_api_server(&etcd, guard_owners).await?;
        plane.start_controllers()?;
        Ok(plane)
    }

    /// Starts etcd; returns its URL.
    fn start_etcd(&self) -> Result<String, Error> {
        let [client, peer] =
            [crate::free_address()?, crate::free_address()?].map(|address| format!("http://{address}"));
        let data = self.path("etcd");
        self.write("etcd-url", &client)?;
        self.spawn(
            Program::Etcd,
            &[
                format!("--data-dir={data}"),
                "--unsafe-no-fsync".to_owned(),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
            ],
        )?;
        Ok(client)
    }

    /// Starts the API server and waits until it is ready.
    async fn start_api_server(&self, etcd: &str, guard_owners: bool) -> Result<(), Error> {
        let secure = crate::free_address()?;
        self.write("tokens.csv", &format!("{ADMIN_TOKEN},admin,admin,system:masters\n"))?;
        self.write("audit.yaml", AUDIT_POLICY)?;
        self.service_account_key()?;
        let [certs, key, tokens, policy, audit] =
            ["certs", "sa.key", "tokens.csv", "audit.yaml", "audit.log"].map(|name| self.path(name));
        let mut flags = vec![
            format!("--etcd-servers={etcd}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", secure.port()),
            format!("--cert-dir={certs}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.path("sa.pub")),
            format!("--service-account-signing-key-file={key}"),
            format!("--token-auth-file={tokens}"),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            format!("--audit-policy-file={policy}"),
            format!("--audit-log-path={audit}"),
        ];
        if guard_owners {
            flags.push("--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned());
        }
        self.spawn(Program::ApiServer, &flags)?;
        self.write("server", &format!("https://{secure}"))?;
        self.write("bin", &self.bin.display().to_string())?;
        self.kubeconfig_for("kubeconfig", ADMIN_TOKEN)?;
        self.ready().await
    }

    /// Starts the controllers that tests need: those of kube-controller-manager where it is found, else our smaller program
    /// with the same ones.
    fn start_controllers(&self) -> Result<(), Error> {
        let kubeconfig = format!("--kubeconfig={}", self.path("kubeconfig"));
        if !self.tool("kube-controller-manager").exists() {
            return self.spawn(Program::CoreControllers, &[kubeconfig]);
        }
        let key = self.path("sa.key");
        self.spawn(
            Program::ControllerManager,
            &[
                kubeconfig,
                format!("--service-account-private-key-file={key}"),
                "--use-service-account-credentials=false".to_owned(),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
                "--controllers=garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                 root-ca-certificate-publisher-controller"
                    .to_owned(),
            ],
        )
    }

    /// Returns the running control plane that this process was started in.
    pub fn from_env() -> Result<Self, Error> {
        crate::init_crypto();
        let dir = std::env::var_os(ENV).map(PathBuf::from).ok_or_else(|| {
            Error(format!("{ENV} is not set: run `cargo run -p testkit --bin control-plane -- COMMAND`"))
        })?;
        let bin = std::fs::read_to_string(dir.join("bin")).map_err(doing("finding the control plane"))?;
        Ok(Self { dir, bin: bin.into(), processes: Processes::default(), _own: None })
    }

    /// Returns its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Returns the path of the audit log, which has one JSON event per line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// Returns the folder of its binaries.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.bin.clone()
    }

    /// Returns the path of a command among its binaries, such as kubectl.
    #[must_use]
    pub fn tool(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Applies a kustomization that contains the CRD and the operator's permissions; returns a token of its service
    /// account.
    pub async fn install(&self, kustomization: &Path) -> Result<String, Error> {
        self.kubectl(&["apply", "--server-side", "-k", &kustomization.display().to_string()]).await?;
        self.kubectl(&["wait", "--for=condition=Established", "crd/arcgisappcredentials.credentials.arcgis.dev"])
            .await?;
        let token = self.kubectl(&["create", "token", ACCOUNT, "-n", ACCOUNT, "--duration=24h"]).await?;
        Ok(token.trim().to_owned())
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(self.tool("kubectl"));
        let output = command.env("KUBECONFIG", self.kubeconfig()).args(args).output().await;
        let output = output.map_err(doing("running kubectl"))?;
        if !output.status.success() {
            return Err(Error(format!("kubectl: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a kubeconfig with this bearer token.
    pub fn kubeconfig_for(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        let server = std::fs::read_to_string(self.dir.join("server")).map_err(doing("finding the API server"))?;
        self.write_kubeconfig(name, &server, &self.dir.join(CA), token)
    }

    /// Returns the API server's URL, and its CA in PEM.
    pub(crate) fn server(&self) -> Result<(String, String), Error> {
        let read = |name| std::fs::read_to_string(self.dir.join(name)).map_err(doing("finding the API server"));
        Ok((read("server")?, read(CA)?))
    }

    /// Stops the processes in order and waits for them.
    pub async fn stop(self) {
        self.processes.stop().await;
    }

    /// The program that runs the controllers.
    #[must_use]
    pub fn controllers(&self) -> Program {
        let manager = self.tool("kube-controller-manager").exists();
        if manager { Program::ControllerManager } else { Program::CoreControllers }
    }

    /// Stops or continues a process: STOP or CONT.
    pub async fn signal(&self, program: Program, signal: &str) -> Result<(), Error> {
        self.processes.signal(program, signal).await
    }

    /// Sends a process KILL or TERM, and kills it if it has not ended after this time.
    pub async fn end(&self, program: Program, signal: &str, grace: Duration) -> Result<(), Error> {
        self.processes.end(program, signal, grace).await
    }

    /// Starts a process that was ended, with the same flags, and waits until the API server is ready.
    pub async fn start_again(&self, program: Program) -> Result<(), Error> {
        self.processes.start_again(program, &self.bin, &self.dir)?;
        self.ready().await
    }

    /// Keeps a copy of the data of etcd, which is stopped for it.
    pub async fn back_up(&self) -> Result<(), Error> {
        self.end(Program::Etcd, "TERM", GRACE).await?;
        self.copy("etcd", "etcd-backup").await?;
        self.start_again(Program::Etcd).await
    }

    /// Ends etcd, the API server and the controllers, and starts them with the data of the backup.
    pub async fn restore(&self) -> Result<(), Error> {
        let controllers = self.controllers();
        for program in [controllers, Program::ApiServer, Program::Etcd] {
            self.end(program, "TERM", GRACE).await?;
        }
        self.copy("etcd-backup", "etcd").await?;
        self.processes.start_again(Program::Etcd, &self.bin, &self.dir)?;
        self.start_again(Program::ApiServer).await?;
        self.start_again(controllers).await
    }

    /// Copies a folder; what was there before is removed.
    async fn copy(&self, from: &str, to: &str) -> Result<(), Error> {
        match std::fs::remove_dir_all(self.path(to)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(doing("removing the data of etcd")(error));
            }
            _ => {}
        }
        let copied = Command::new("cp").arg("-a").args([self.path(from), self.path(to)]).status().await;
        let copied = copied.map_err(doing("copying the data of etcd"))?;
        if copied.success() { Ok(()) } else { Err(Error("the data of etcd could not be copied".to_owned())) }
    }

    /// Returns a process that has ended by itself.
    pub fn ended(&self) -> Option<String> {
        self.processes.ended(&self.dir)
    }

    /// Returns the metrics of etcd, as text.
    pub async fn etcd_metrics(&self) -> Result<String, Error> {
        let client = reqwest::Client::builder().no_proxy().build().map_err(doing("making a client"))?;
        let sent = client.get(format!("{}/metrics", self.etcd_url()?)).send().await;
        let answer =
            sent.and_then(reqwest::Response::error_for_status).map_err(doing("reading the metrics of etcd"))?;
        answer.text().await.map_err(doing("reading the metrics of etcd"))
    }

    fn etcd_url(&self) -> Result<String, Error> {
        std::fs::read_to_string(self.dir.join("etcd-url")).map_err(doing("finding etcd"))
    }

    /// Compacts etcd at its current revision, by its JSON gateway.
    pub async fn compact(&self) -> Result<(), Error> {
        let url = self.etcd_url()?;
        let client = reqwest::Client::builder().no_proxy().build().map_err(doing("making a client"))?;
        let call = async |path: &str, body: Value| {
            let sent = client.post(format!("{url}/v3/kv/{path}")).body(body.to_string()).send().await;
            let answer = sent.and_then(reqwest::Response::error_for_status).map_err(doing("calling etcd"))?;
            let text = answer.text().await.map_err(doing("calling etcd"))?;
            serde_json::from_str::<Value>(&text).map_err(doing("reading the answer of etcd"))
        };
        let found = call("range", json!({"key": "AA=="})).await?;
        call("compaction", json!({"revision": found["header"]["revision"], "physical": true})).await.map(drop)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        std::fs::write(self.dir.join(name), text).map_err(doing(format!("writing {name}")))
    }

    pub(crate) fn write_kubeconfig(&self, name: &str, server: &str, ca: &Path, token: &str) -> Result<PathBuf, Error> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "testkit",
            "clusters": [{"name": "testkit", "cluster": {"server": server, "certificate-authority": ca}}],
            "contexts": [{"name": "testkit", "context": {"cluster": "testkit", "user": "testkit"}}],
            "users": [{"name": "testkit", "user": {"token": token}}],
        });
        self.write(name, &config.to_string())?;
        Ok(self.dir.join(name))
    }

    fn service_account_key(&self) -> Result<(), Error> {
        let key = rcgen::KeyPair::generate().map_err(doing("making a key"))?;
        self.write("sa.pub", &key.public_key_pem())?;
        self.write("sa.key", &key.serialize_pem())
    }

    fn spawn(&self, program: Program, flags: &[String]) -> Result<(), Error> {
        self.processes.spawn(program, flags, &self.bin, &self.dir)
    }

    async fn ready(&self) -> Result<(), Error> {
        let until = Instant::now() + START;
        let kubeconfig = self.kubeconfig();
        loop {
            if let Some(ended) = self.ended() {
                return Err(Error(ended));
            }
            if check_ready(&kubeconfig).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Error(format!("the API server was not ready within {} s", START.as_secs())));
            }
            // Nothing can be awaited before the API server listens.
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Runs the script that builds the binaries where they are missing; returns their folder.
pub fn binaries(script: &Path) -> Result<PathBuf, Error> {
    let built = std::process::Command::new(script).stderr(std::process::Stdio::inherit()).output();
    let built = built.map_err(doing(script.display().to_string()))?;
    if !built.status.success() {
        return Err(Error("the binaries could not be built".to_owned()));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&built.stdout).trim()))
}

/// Returns a client for a kubeconfig.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client, Error> {
    let config = kube::config::Kubeconfig::read_from(kubeconfig).map_err(doing("reading the kubeconfig"))?;
    let options = kube::config::KubeConfigOptions::default();
    let config =
        kube::Config::from_custom_kubeconfig(config, &options).await.map_err(doing("reading the kubeconfig"))?;
    kube::Client::try_from(config).map_err(doing("making a client"))
}

async fn check_ready(kubeconfig: &Path) -> Result<(), Error> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(doing("checking readiness"))?;
    client(kubeconfig).await?.request_text(request).await.map(drop).map_err(doing("checking readiness"))
}
