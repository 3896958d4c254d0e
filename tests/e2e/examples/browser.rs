//! Headless Chromium, driven by tests/browser/drive.mjs.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::processes::TIMEOUT;
use crate::support::packages::install;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A browser with one page; dropping it ends it.
pub struct Browser {
    name: &'static str,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    shots: usize,
    child: Child,
}

impl Browser {
    /// Starts it, if it is installed. It trusts the certificate in this file.
    pub async fn start(name: &'static str, certificate: &Path) -> Option<Self> {
        let driver = install(&["npm", "tests/browser"]).await?;
        let chromium = install(&["chromium"]).await?;
        let mut child = Command::new("node")
            .arg(driver.join("drive.mjs"))
            .arg(chromium)
            .arg(certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { name, input, output, shots: 0, child })
    }

    async fn answer(&mut self, command: &Value) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(TIMEOUT * 2, self.output.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line.unwrap_or_else(|| panic!("the browser ended at {command}"))).unwrap()
    }

    /// Runs a command that must succeed.
    pub async fn run(&mut self, command: &str, argument: &str) -> Value {
        let answer = self.answer(&json!({ command: argument })).await;
        assert!(answer["error"].is_null(), "{command} {argument}: {}", answer["error"]);
        answer["ok"].clone()
    }

    /// Keeps a picture of the page as an artifact.
    pub async fn screenshot(&mut self, what: &str) {
        self.shots += 1;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}-{}-{what}.png", self.name, self.shots));
        self.run("screenshot", &path.display().to_string()).await;
    }

    /// Ends it; returns everything that it has received, stored and shown.
    pub async fn end(mut self) -> Received {
        let file = tempfile::NamedTempFile::new().unwrap();
        self.run("end", &file.path().display().to_string()).await;
        tokio::time::timeout(TIMEOUT, self.child.wait()).await.unwrap().unwrap();
        Received(serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap())
    }
}

/// What a browser has received, stored and shown.
pub struct Received(Value);

impl Received {
    /// Returns the responses, each with its URL, status, headers and body.
    pub fn responses(&self) -> &[Value] {
        self.0["received"].as_array().unwrap()
    }

    /// Returns the texts that the status of the page has had, in order.
    pub fn history(&self) -> Vec<&str> {
        self.0["history"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    /// Returns the URLs of the responses in which a text occurs; `page` is the place of everything else.
    pub fn places_of(&self, text: &str) -> Vec<String> {
        let has = |value: &Value| value.to_string().contains(text);
        let mut places: Vec<String> = self
            .responses()
            .iter()
            .filter(|response| has(&response["headers"]) || has(&response["body"]))
            .map(|response| response["url"].as_str().unwrap().split('?').next().unwrap().to_owned())
            .collect();
        places.extend(
            ["stored", "html", "messages", "history"]
                .iter()
                .filter(|part| has(&self.0[**part]))
                .map(|part| (*part).to_owned()),
        );
        places.sort();
        places.dedup();
        places
    }
}
