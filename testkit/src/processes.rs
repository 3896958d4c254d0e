//! The processes of a control plane: they are stopped, frozen and restarted by their process IDs.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::{Error, doing};

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    ApiServer,
    CoreControllers,
    ControllerManager,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::CoreControllers => "core-controllers",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

struct Process {
    program: Program,
    flags: Vec<String>,
    /// `None` after it was ended on purpose.
    child: Option<Child>,
}

/// In the order in which they were started; dropping them kills them.
#[derive(Default)]
pub struct Processes(Mutex<Vec<Process>>);

impl Processes {
    fn lock(&self) -> MutexGuard<'_, Vec<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a program of the folder `bin`; its log is in the folder `dir`.
    pub fn spawn(&self, program: Program, flags: &[String], bin: &Path, dir: &Path) -> Result<(), Error> {
        let child = Some(run(program, flags, bin, dir)?);
        self.lock().push(Process { program, flags: flags.to_owned(), child });
        Ok(())
    }

    /// Starts a process again that was ended.
    pub fn start_again(&self, program: Program, bin: &Path, dir: &Path) -> Result<(), Error> {
        let mut processes = self.lock();
        let process = processes.iter_mut().find(|process| process.program == program && process.child.is_none());
        let process = process.ok_or_else(|| Error(format!("{} was not ended", program.name())))?;
        process.child = Some(run(program, &process.flags, bin, dir)?);
        Ok(())
    }

    /// Sends a signal.
    pub async fn signal(&self, program: Program, signal: &str) -> Result<(), Error> {
        let pid = {
            let processes = self.lock();
            let process = processes.iter().find(|process| process.program == program);
            process.and_then(|process| process.child.as_ref()?.id())
        };
        send(program, pid, signal).await
    }

    /// Sends a signal that ends a process, and kills it if it has not ended after this time.
    pub async fn end(&self, program: Program, signal: &str, grace: Duration) -> Result<(), Error> {
        let child = {
            let mut processes = self.lock();
            let process = processes.iter_mut().find(|process| process.program == program);
            process.and_then(|process| process.child.take())
        };
        send(program, child.as_ref().and_then(Child::id), signal).await?;
        let Some(mut child) = child else { return Ok(()) };
        if timeout(grace, child.wait()).await.is_err() {
            child.kill().await.map_err(doing(format!("killing {}", program.name())))?;
        }
        Ok(())
    }

    /// Returns a process that has ended by itself, with the last lines of its log.
    pub fn ended(&self, dir: &Path) -> Option<String> {
        self.lock().iter_mut().find_map(|Process { program, child, .. }| {
            let status = child.as_mut()?.try_wait().ok()??;
            let log = std::fs::read_to_string(dir.join(format!("{}.log", program.name()))).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            Some(format!("{} ended with {status}: {}", program.name(), tail.join(" | ")))
        })
    }

    /// Kills the processes, the last one first, and waits for them.
    pub async fn stop(self) {
        let processes = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        for mut child in processes.into_iter().rev().filter_map(|process| process.child) {
            let _ = child.kill().await;
        }
    }
}

fn run(program: Program, flags: &[String], bin: &Path, dir: &Path) -> Result<Child, Error> {
    let name = program.name();
    let log = std::fs::File::options().create(true).append(true).open(dir.join(format!("{name}.log")));
    let log = log.map_err(doing("opening a log"))?;
    let errors = log.try_clone().map_err(doing("opening a log"))?;
    Command::new(bin.join(name))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .kill_on_drop(true)
        // Ctrl-C must reach only the user of the control plane, who may need it until the end.
        .process_group(0)
        .spawn()
        .map_err(doing(format!("starting {name}")))
}

async fn send(program: Program, pid: Option<u32>, signal: &str) -> Result<(), Error> {
    let pid = pid.ok_or_else(|| Error(format!("{} does not run", program.name())))?;
    crate::signal(pid, signal).await.map_err(doing(program.name()))
}
