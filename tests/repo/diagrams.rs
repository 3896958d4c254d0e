//! The Mermaid diagrams of the documentation, parsed by Mermaid.

use std::path::Path;
use std::process::Command;

use crate::docs::pages;
use crate::support::packages::install;

/// Runs the parser in this folder on files; returns whether it found no error, and what it printed.
fn parse(folder: &Path, files: &[impl AsRef<Path>]) -> (bool, String) {
    let paths = files.iter().map(AsRef::as_ref);
    let output = Command::new("node").arg(folder.join("check.mjs")).args(paths).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn every_diagram_is_valid() {
    let Some(parser) = install(&["npm", "tests/repo/mermaid"]).await else { return };
    let (valid, text) = parse(&parser, &pages());
    assert!(valid, "{text}");
    assert!(text.trim().parse::<usize>().unwrap() >= 4, "{text}");

    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "# A page\n\n```mermaid\nflowchart LR\n    a --> [b\n```\n").unwrap();
    let (valid, text) = parse(&parser, &[broken.path()]);
    assert!(!valid && text.contains(":3: "), "{text}");
}
