//! The programs and packages that the examples need.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

/// Prints past the capture of libtest, to show that something was not checked.
fn print(text: &str) {
    std::io::stderr().write_all(format!("examples: {text}\n").as_bytes()).unwrap();
}

/// Returns where hack/examples has installed something; reports what cannot be run without it.
pub async fn install(what: &[&str]) -> Option<PathBuf> {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/hack/examples"))
        .args(what)
        .env("EXAMPLES_DIR", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    print(&format!("NOT RUN: what needs {}", errors.lines().last().unwrap_or_default()));
    None
}
