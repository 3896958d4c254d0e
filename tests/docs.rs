//! The documents say what the code does: every field, key, reason, flag and metric, every link, every test named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arcgis_credential_operator::api::{Format, Move, Reason, Retry, crd};
use arcgis_credential_operator::cli::Cli;
use arcgis_credential_operator::controller::Index;
use arcgis_credential_operator::ops::Metrics;
use clap::CommandFactory;
use jiff::Timestamp;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn reference() -> String {
    std::fs::read_to_string(root().join("docs/reference.md")).unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The words between backticks that begin like this.
fn words(prefix: &str) -> BTreeSet<String> {
    let words = quoted(&reference()).into_iter().filter_map(|text| text.split(' ').next().map(str::to_owned));
    words.filter(|word| word.starts_with(prefix) && word.len() > prefix.len()).collect()
}

/// The paths of the leaves, and of what is free inside.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) => {
            for (name, property) in properties {
                leaves(property, &format!("{path}.{name}"), found);
            }
        }
        None => {
            found.insert(path.trim_start_matches('.').to_owned());
        }
    }
}

#[test]
fn the_reference_names_every_field_and_no_other() {
    let crd = serde_json::to_value(crd()).unwrap();
    let mut fields = BTreeSet::new();
    leaves(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut fields);
    let told: BTreeSet<String> = words("spec.").union(&words("status.")).cloned().collect();
    assert_eq!(told, fields.into_iter().filter(|f| f.starts_with("spec.") || f.starts_with("status.")).collect());
}

#[test]
fn the_reference_tells_of_every_reason_whose_move_it_is_and_when_it_is_tried_again() {
    let text = reference();
    for reason in Reason::ALL {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{reason}` |")));
        let row = row.unwrap_or_else(|| panic!("{reason} is missing"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (mover, retry) = (cells[3], cells[4]);
        assert_eq!(mover, if reason.mover() == Move::User { "user" } else { "nobody" }, "{reason}");
        let time = |seconds: u32| match seconds {
            3600.. => format!("{} h", seconds / 3600),
            60.. => format!("{} m", seconds / 60),
            _ => format!("{seconds} s"),
        };
        match reason.retry() {
            Retry::OnChange => assert_eq!(retry, "on change", "{reason}"),
            Retry::RetryAfter => assert!(retry.starts_with("as the portal says"), "{reason}"),
            Retry::Backoff { first, cap } => {
                let expected = format!("{} doubling to {}", time(first), time(cap));
                assert!(retry.starts_with(&expected), "{reason}: {expected}");
            }
        }
    }
}

#[test]
fn the_reference_names_every_format_and_its_key() {
    for format in Format::ALL {
        assert!(reference().contains(&format!("| `{}` (`{format:?}`) |", format.key())), "{format:?}");
    }
}

#[test]
fn the_reference_names_every_flag_and_variable_and_no_other() {
    let command = Cli::command();
    let mut flags = BTreeSet::new();
    let mut variables = BTreeSet::new();
    for sub in command.get_subcommands() {
        assert!(reference().contains(&format!("| `{}` |", sub.get_name())));
        for argument in sub.get_arguments().filter(|argument| argument.get_id() != "help") {
            flags.insert(format!("--{}", argument.get_long().unwrap()));
            variables.extend(argument.get_env().map(|env| env.to_str().unwrap().to_owned()));
        }
    }
    let others: BTreeSet<String> = ["--for=condition=Ready".to_owned()].into();
    assert_eq!(&words("--") - &others, flags);
    assert_eq!(words("ARCGIS_OPERATOR_"), variables);
}

#[test]
fn the_reference_names_every_metric_and_no_other() {
    let metrics = Metrics::new(Arc::new(Mutex::new(Index::default())), || Timestamp::UNIX_EPOCH).unwrap();
    let names: BTreeSet<String> = metrics.names().into_iter().collect();
    assert_eq!(words("arcgis_credential_"), names);
}

fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["README.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root().join(name)).into();
    let mut folders = vec![root().join("docs"), root().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The targets of a document's links.
fn links(text: &str) -> Vec<&str> {
    text.match_indices("](").map(|(at, _)| &text[at + 2..]).filter_map(|rest| Some(&rest[..rest.find(')')?])).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |title: &str| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
    };
    text.lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if let Some(anchor) = anchor {
                let known = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(known.contains(anchor), "{}: {link} leads nowhere", document.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 5);
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut named = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for (file, name) in quoted(&text).iter().filter_map(|text| text.split_once(".rs::")) {
            let source = root().join(format!("{file}.rs"));
            let source = std::fs::read_to_string(&source).unwrap_or_else(|_| panic!("{file}.rs does not exist"));
            assert!(source.contains(&format!("fn {name}(")), "{}: {file}.rs::{name}", document.display());
            named += 1;
        }
    }
    assert!(named > 20);
}
