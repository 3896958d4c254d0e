//! The operator's process and its resource usage.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use testkit::control_plane::ControlPlane;
use testkit::portal::Portal;
use testkit::{Error, doing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

const START: Duration = Duration::from_mins(1);
/// The unit in which Linux reports processor time to every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// The resource usage of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Resident memory in KiB.
    pub resident: u64,
    /// The maximum of it.
    pub peak: u64,
    /// Seconds of processor time.
    pub cpu: f64,
}

pub struct Operator {
    binary: PathBuf,
    kubeconfig: PathBuf,
    portals: Vec<String>,
    ca: PathBuf,
    ca_pem: String,
    log: PathBuf,
    child: Option<Child>,
    admin: String,
    /// The label selector of its shard.
    selector: Option<String>,
}

impl Operator {
    pub fn new(binary: &Path, plane: &ControlPlane, kubeconfig: &Path, portals: &[Portal], name: &str) -> Self {
        Self {
            binary: binary.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            portals: portals.iter().map(Portal::url).collect(),
            ca: plane.dir().join("bench-ca.pem"),
            ca_pem: portals.iter().map(Portal::ca).collect(),
            log: plane.dir().join(format!("bench-{name}.log")),
            child: None,
            admin: String::new(),
            selector: None,
        }
    }

    /// Processes only resources with these labels.
    pub fn select(mut self, labels: String) -> Self {
        self.selector = Some(labels);
        self
    }

    /// Starts it; returns how long it took to become ready.
    pub async fn start(&mut self, leader_elect: bool) -> Result<Duration, Error> {
        std::fs::write(&self.ca, &self.ca_pem).map_err(doing("writing the CA"))?;
        self.admin = testkit::free_address()?.to_string();
        let log = std::fs::File::options().create(true).append(true).open(&self.log).map_err(doing("opening a log"))?;
        let began = Instant::now();
        let child = Command::new(&self.binary)
            .args(["run", "--lease-namespace", "arcgis-credential-operator", "--admin-address", &self.admin])
            .arg(format!("--leader-elect={leader_elect}"))
            .args(self.selector.iter().flat_map(|labels| ["--selector", labels]))
            .args(self.portals.iter().map(|portal| format!("--allowed-portal={portal}")))
            .arg("--ca-file")
            .arg(&self.ca)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(doing("opening a log"))?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(doing(format!("starting {}", self.binary.display())))?;
        self.child = Some(child);
        self.wait(|_| true, "/readyz").await?;
        Ok(began.elapsed())
    }

    /// Waits until it leads.
    pub async fn leads(&mut self) -> Result<(), Error> {
        self.wait(|metrics| metrics.lines().any(|line| line == "arcgis_credential_leader 1"), "/metrics").await
    }

    async fn wait(&mut self, until: impl Fn(&str) -> bool, path: &str) -> Result<(), Error> {
        let began = Instant::now();
        while !self.http_get(path).await.is_some_and(|answer| until(&answer)) {
            let ended =
                self.child.as_mut().map(Child::try_wait).transpose().map_err(doing("waiting for the operator"))?;
            if let Some(status) = ended.flatten() {
                return Err(Error(format!("the operator ended with {status}: {}", self.last_line())));
            }
            if began.elapsed() > START {
                return Err(Error(format!("the operator did not become ready: {path}: {}", self.last_line())));
            }
            // Nothing can be awaited before the address is bound.
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Returns the last line of its log.
    fn last_line(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default().lines().last().unwrap_or_default().to_owned()
    }

    /// Returns how many resources have a problem.
    pub async fn problems(&self) -> Result<usize, Error> {
        let metrics = self.http_get("/metrics").await.ok_or_else(|| Error("no metrics".to_owned()))?;
        Ok(metrics.lines().filter(|line| line.starts_with("arcgis_credential_problem{")).count())
    }

    /// Returns a response of the admin address, if its status is 200.
    pub async fn http_get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    }

    pub async fn restart(&mut self, leader_elect: bool) -> Result<Duration, Error> {
        self.stop().await;
        self.start(leader_elect).await
    }

    /// Ends it by SIGTERM, and waits for that.
    pub async fn terminate(&mut self) -> Result<(), Error> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = child.id() {
            testkit::signal(pid, "TERM").await?;
        }
        child.wait().await.map(drop).map_err(doing("waiting for the operator"))
    }

    pub async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    pub fn sample(&self) -> Result<Sample, Error> {
        let pid = self.child.as_ref().and_then(Child::id).ok_or_else(|| Error("the operator has ended".to_owned()))?;
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(doing("reading /proc"));
        let (status, stat) = (read("status")?, read("stat")?);
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or_default()
        };
        // After the name, which may contain any characters, utime and stime are fields 12 and 13.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
        let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(Sample { resident: kib("VmRSS:"), peak: kib("VmHWM:"), cpu: ticks / TICKS_PER_SECOND })
    }
}
