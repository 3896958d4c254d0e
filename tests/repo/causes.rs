//! Each cause of each reason has a row in the reference, a row in troubleshooting, and a test that produces it.

use std::fmt::Write as _;

use arcgis_credential_operator::api::{Cause, MESSAGES, Reason};

use crate::docs::root;

const BEGIN: &str = "### Causes\n";
const END: &str = "\n## Status\n";

/// What a brace of a message stands for, as the reference shows it.
fn shown(seen: &str) -> String {
    let mut shown = seen.to_owned();
    for (brace, word) in [
        ("{portal}", "PORTAL"),
        ("{credentials}", "Secret SECRET"),
        ("{client_certificate}", "SECRET"),
        ("{target}", "TARGET"),
        ("{key}", "KEY"),
        ("{ca}", "KIND NAME, key KEY"),
        ("{source}", "KIND NAME"),
        ("{field}", "FIELD"),
        ("{name}", " NAME"),
        ("{proxy}", " NAME"),
        ("{through}", " through proxy NAME"),
        ("{owner}", "resource NAME"),
        ("{date}", "DATE"),
        ("{status}", "HTTP STATUS"),
        ("{code}", "ArcGIS error CODE"),
    ] {
        shown = shown.replace(brace, word);
    }
    assert!(!shown.contains('{'), "{shown}");
    shown
}

fn table() -> String {
    let mut table = "\n| reason | cause | message | what to do |\n|---|---|---|---|\n".to_owned();
    for row in MESSAGES {
        let Some(cause) = row.cause else { continue };
        let status = match row.status {
            None => String::new(),
            Some(0) => " (401 with Negotiate or NTLM)".to_owned(),
            Some(status) => format!(" ({status})"),
        };
        let (reason, seen, advice) = (row.reason, shown(row.seen), row.advice);
        writeln!(table, "| `{reason}` | `{cause}`{status} | {seen} | {advice} |").unwrap();
    }
    table
}

#[test]
fn the_reference_lists_every_cause_with_its_message() {
    let path = root().join("docs/reference.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (section, after) = rest.split_once(END).unwrap();
    let (intro, _) = section.split_once("\n| reason |").unwrap_or((section, ""));
    let expected = format!("{}\n{}", intro.trim_end_matches('\n'), table());
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(section, expected, "run UPDATE_SNAPSHOT=1 cargo test --test repo causes::");
}

#[test]
fn troubleshooting_has_a_row_for_every_cause_of_every_reason_and_no_other() {
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    for reason in Reason::ALL {
        let (_, section) = text.split_once(&format!("\n### {reason}\n")).unwrap();
        let section = section.split("\n### ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let rows = rows.filter(|(_, rest)| rest.matches(" | ").count() == 1);
        let found: Vec<Option<Cause>> = rows.map(|(cause, _)| Cause::parse(cause)).collect();
        let causes: Vec<Option<Cause>> = reason.causes().iter().copied().map(Some).collect();
        assert_eq!(found, causes, "{reason}");
    }
}

/// The sources of the tests that produce causes.
fn tests() -> String {
    let mut text = String::new();
    let mut folders: Vec<_> = ["tests/e2e", "src/core/tests", "src/arcgis/tests"].map(|name| root().join(name)).into();
    let mut files: Vec<_> = ["src/arcgis/tests.rs", "src/cluster/error.rs"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { &mut folders } else { &mut files }.push(path);
        }
    }
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let own_tests = source.split_once("mod tests {").map(|(_, tests)| tests.to_owned());
        text.push_str(&own_tests.unwrap_or(source));
    }
    text
}

/// It is found where a target is rendered, and that has no limit yet.
const NOT_PRODUCED: &[Cause] = &[Cause::TargetTooLarge];

#[test]
fn a_test_produces_every_cause() {
    let tests = tests();
    for cause in Cause::ALL {
        let word = cause.as_str();
        let names = [format!("Cause::{word}"), format!("\"{word}\""), format!("Err({word})")];
        let produced = names.iter().any(|name| tests.contains(name.as_str()));
        assert_ne!(produced, NOT_PRODUCED.contains(cause), "{cause}");
    }
}
