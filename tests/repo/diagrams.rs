//! The Mermaid diagrams of the documentation, parsed by Mermaid.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::docs::{pages, root};

/// Runs the parser on files; `None`, and a line that says so, where its packages cannot be installed.
fn parse(files: &[&Path]) -> Option<(bool, String)> {
    let install = root().join("hack/examples");
    let installed =
        Command::new(install).args(["npm", "tests/repo/mermaid"]).env("EXAMPLES_DIR", TEMP).output().unwrap();
    if !installed.status.success() {
        let why = String::from_utf8_lossy(&installed.stderr);
        let line = format!("diagrams: NOT RUN: {}\n", why.lines().last().unwrap_or_default());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    let folder = String::from_utf8(installed.stdout).unwrap();
    let output = Command::new("node").arg(Path::new(folder.trim()).join("check.mjs")).args(files).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(text).unwrap()))
}

const TEMP: &str = env!("CARGO_TARGET_TMPDIR");

#[test]
fn every_diagram_is_valid() {
    let pages = pages();
    let Some((valid, text)) = parse(&pages.iter().map(std::path::PathBuf::as_path).collect::<Vec<_>>()) else { return };
    assert!(valid, "{text}");
    assert!(text.trim().parse::<usize>().unwrap() >= 4, "{text}");

    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "# A page\n\n```mermaid\nflowchart LR\n    a --> [b\n```\n").unwrap();
    let (valid, text) = parse(&[broken.path()]).unwrap();
    assert!(!valid && text.contains(":3: "), "{text}");
}
