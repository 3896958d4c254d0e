//! Programs that run during a test; dropping one stops it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::support::TestEnv;
use testkit::pki::Authority;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

pub const TIMEOUT: Duration = Duration::from_mins(1);

/// What a program has printed.
#[derive(Debug, Default)]
pub struct Printed {
    pub lines: Vec<String>,
}

/// A program whose output is read continuously.
pub struct Process {
    pub name: String,
    child: Child,
    printed: watch::Receiver<Printed>,
}

impl Process {
    /// Starts a command; its standard output and standard error are one stream and keep their order.
    pub fn start(name: &str, command: &[&str], variables: &[(&str, String)]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            .args(command)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, printed) = watch::channel(Printed::default());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|printed| printed.lines.push(line));
            }
        });
        Self { name: name.to_owned(), child, printed }
    }

    /// Returns how many lines contain one of the texts.
    pub fn count(&self, texts: &[&str]) -> usize {
        count(&self.printed.borrow(), texts)
    }

    /// Waits until this many lines contain one of the texts.
    pub async fn wait_for(&mut self, texts: &[&str], lines: usize) {
        let reached = self.printed.wait_for(|printed| count(printed, texts) >= lines);
        let reached = tokio::time::timeout(TIMEOUT, reached).await.is_ok_and(|printed| printed.is_ok());
        let last = self.printed.borrow().lines.iter().rev().take(12).rev().cloned().collect::<Vec<_>>().join("\n");
        assert!(reached, "{} does not print {texts:?}: {last}", self.name);
        assert!(self.child.try_wait().unwrap().is_none(), "{} has ended: {last}", self.name);
    }

    /// Returns the last line that contains the text.
    pub fn line(&self, text: &str) -> Option<String> {
        self.printed.borrow().lines.iter().rev().find(|line| line.contains(text)).cloned()
    }
}

fn count(printed: &Printed, texts: &[&str]) -> usize {
    printed.lines.iter().filter(|line| texts.iter().any(|text| line.contains(text))).count()
}

/// Writes a file with the CA of the portal and another one.
pub fn bundle(env: &TestEnv, other: &Authority) -> PathBuf {
    let path = env.plane.dir().join(format!("{}-bundle.pem", env.namespace));
    std::fs::write(&path, format!("{}{}", env.portal.ca(), other.pem())).unwrap();
    path
}
