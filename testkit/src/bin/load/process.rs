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
    /// The part of it that no file backs.
    pub anonymous: u64,
    /// Seconds of processor time.
    pub cpu: f64,
}

pub struct Operator {
    binary: PathBuf,
    kubeconfig: PathBuf,
    portal: String,
    ca: PathBuf,
    ca_pem: String,
    log: PathBuf,
    child: Option<Child>,
    admin: String,
}

impl Operator {
    pub fn new(binary: &Path, plane: &ControlPlane, kubeconfig: PathBuf, portal: &Portal) -> Self {
        Self {
            binary: binary.to_owned(),
            kubeconfig,
            portal: portal.url(),
            ca: plane.dir().join("load-ca.pem"),
            ca_pem: portal.ca().to_owned(),
            log: plane.dir().join("load-operator.log"),
            child: None,
            admin: String::new(),
        }
    }

    /// Starts it; returns how long it took to become ready.
    pub async fn start(&mut self) -> Result<Duration, Error> {
        std::fs::write(&self.ca, &self.ca_pem).map_err(doing("writing the CA"))?;
        self.admin = testkit::free_address()?.to_string();
        let log = std::fs::File::options().create(true).append(true).open(&self.log).map_err(doing("opening a log"))?;
        let began = Instant::now();
        let child = Command::new(&self.binary)
            .args(["run", "--leader-elect=false", "--allowed-portal", &self.portal])
            .args(["--admin-address", &self.admin, "--ca-file"])
            .arg(&self.ca)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(doing("opening a log"))?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(doing(format!("starting {}", self.binary.display())))?;
        self.child = Some(child);
        while !self.is_ready().await {
            if began.elapsed() > START {
                return Err(Error("the operator did not become ready".to_owned()));
            }
            // Nothing can be awaited before the address is bound.
            sleep(Duration::from_millis(10)).await;
        }
        Ok(began.elapsed())
    }

    async fn is_ready(&self) -> bool {
        self.http_get("/readyz").await.is_some()
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

    pub async fn restart(&mut self) -> Result<Duration, Error> {
        self.stop().await;
        self.start().await
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
        Ok(Sample {
            resident: kib("VmRSS:"),
            peak: kib("VmHWM:"),
            anonymous: kib("RssAnon:"),
            cpu: ticks / TICKS_PER_SECOND,
        })
    }
}
