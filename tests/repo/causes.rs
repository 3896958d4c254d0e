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
