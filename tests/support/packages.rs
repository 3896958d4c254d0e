//! The programs and packages that hack/examples installs.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

/// Returns where something is installed. Where it cannot be, prints past the capture of libtest what is not checked.
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
    let line = format!("examples: NOT RUN: what needs {}\n", errors.lines().last().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    None
}
