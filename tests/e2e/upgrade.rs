//! An upgrade and a rollback: the API stays compatible, nothing is requested, and no Secret is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::TestEnv;
use crate::support::tools::succeed;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CRD: &str = "crds/arcgisappcredentials.yaml";
const SNAPSHOT: &str = "tests/data/crd-v1alpha1.json";

/// The schema of one field, as far as users depend on it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct FieldSchema {
    #[serde(rename = "type")]
    kind: Value,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    required: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    values: BTreeSet<String>,
    /// Lengths, item counts and patterns: they may become wider, but not narrower.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    bounds: BTreeMap<String, Value>,
    /// The value that applies if none is specified.
    #[serde(skip_serializing_if = "Value::is_null")]
    default: Value,
}

type Schema = BTreeMap<String, FieldSchema>;

const LEAST: [&str; 4] = ["minLength", "minItems", "minProperties", "minimum"];
const MOST: [&str; 4] = ["maxLength", "maxItems", "maxProperties", "maximum"];

/// Collects the fields of a schema by path, including those inside lists and maps.
fn fields(schema: &Value, path: &str, found: &mut Schema) {
    let words = |name: &str| {
        let list = schema[name].as_array().into_iter().flatten();
        list.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect()
    };
    let bounds = LEAST.iter().chain(&MOST).chain(&["pattern"]).filter(|name| !schema[**name].is_null());
    let field = FieldSchema {
        kind: schema["type"].clone(),
        required: words("required"),
        values: words("enum"),
        bounds: bounds.map(|name| ((*name).to_owned(), schema[*name].clone())).collect(),
        default: schema["default"].clone(),
    };
    found.insert(path.to_owned(), field);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        fields(inner, &format!("{path}.{name}"), found);
    }
    for (name, inner) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[name].is_object() {
            fields(&schema[name], &format!("{path}{inner}"), found);
        }
    }
}

fn fields_of(crd: &str) -> Schema {
    let crd: Value = serde_saphyr::from_str(crd).unwrap();
    let versions = crd["spec"]["versions"].as_array().unwrap();
    let version = versions.iter().find(|version| version["name"] == "v1alpha1").expect("v1alpha1 was removed");
    let mut found = Schema::new();
    fields(&version["schema"]["openAPIV3Schema"], "", &mut found);
    found
}

/// Returns what the new schema breaks for users of the old one. `tests/e2e/admission.rs` covers the CEL rules.
fn incompatible(old: &Schema, new: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    for (path, before) in old {
        let Some(after) = new.get(path) else {
            found.push(format!("{path} was removed"));
            continue;
        };
        let stricter = |name: &String, after: Option<&Value>, before: Option<&Value>| match (after, before) {
            (None, _) => false,
            (Some(after), Some(before)) if LEAST.contains(&name.as_str()) => after.as_f64() > before.as_f64(),
            (Some(after), Some(before)) if MOST.contains(&name.as_str()) => after.as_f64() < before.as_f64(),
            (after, before) => after != before,
        };
        let mut record = |wrong: bool, what: &str| found.extend(wrong.then(|| format!("{path}: {what}")));
        record(after.kind != before.kind, "type changed");
        record(!after.required.is_subset(&before.required), "something became required");
        record(!before.values.is_subset(&after.values), "a value was removed");
        record(before.values.is_empty() && !after.values.is_empty(), "only some values are allowed");
        record(after.default != before.default, "default changed");
        for (name, bound) in &after.bounds {
            record(stricter(name, Some(bound), before.bounds.get(name)), &format!("{name} is narrower"));
        }
    }
    found
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(ROOT).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Returns the last release before this commit.
fn last_tag() -> Option<String> {
    git(&["describe", "--tags", "--abbrev=0", "--match=v*", "HEAD"])
}

#[test]
fn the_crd_is_compatible_with_earlier_versions() {
    let new = fields_of(&std::fs::read_to_string(Path::new(ROOT).join(CRD)).unwrap());
    let snapshot = Path::new(ROOT).join(SNAPSHOT);
    let old: Schema = serde_json::from_str(&std::fs::read_to_string(&snapshot).unwrap()).unwrap();
    assert_eq!(incompatible(&old, &new), [""; 0]);
    if let Some(tag) = last_tag() {
        let released = git(&["show", &format!("{tag}:{CRD}")]).unwrap();
        assert_eq!(incompatible(&fields_of(&released), &new), [""; 0], "since {tag}");
    }
    let current = serde_json::to_string_pretty(&new).unwrap() + "\n";
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        std::fs::write(snapshot, current).unwrap();
    } else {
        assert!(
            old == new,
            "the schema has additions: run UPDATE_SNAPSHOT=1 cargo test --test e2e upgrade::the_crd, and commit it"
        );
    }
}

#[test]
fn each_kind_of_incompatible_change_is_detected() {
    type Change = fn(&mut Schema);
    let changes: [(&str, Change); 7] = [
        ("was removed", |fields| drop(fields.remove(".spec.suspend"))),
        ("type changed", |fields| fields.get_mut(".spec.suspend").unwrap().kind = "string".into()),
        ("became required", |fields| {
            fields.get_mut(".spec").unwrap().required.insert("portal".to_owned());
        }),
        ("a value was removed", |fields| {
            fields.get_mut(".spec.target.formats[]").unwrap().values.remove("Json");
        }),
        ("only some values", |fields| {
            fields.get_mut(".spec.portal.url").unwrap().values.insert("https://www.arcgis.com".to_owned());
        }),
        ("narrower", |fields| {
            fields.get_mut(".spec.target.formats").unwrap().bounds.insert("maxItems".to_owned(), 1.into());
        }),
        ("default changed", |fields| fields.get_mut(".spec.suspend").unwrap().default = true.into()),
    ];
    let read = || fields_of(&std::fs::read_to_string(Path::new(ROOT).join(CRD)).unwrap());
    for (seen, change) in changes {
        let (old, mut new) = (read(), read());
        change(&mut new);
        let found = incompatible(&old, &new);
        assert!(found.len() == 1 && found[0].contains(seen), "{seen}: {found:?}");
    }
    let (old, mut new) = (read(), read());
    new.insert(".spec.more".to_owned(), FieldSchema::default());
    new.get_mut(".spec.target.formats[]").unwrap().values.insert("More".to_owned());
    assert!(incompatible(&old, &new).is_empty(), "additions are compatible");
}

/// Returns the operator of the last release, built once in a work tree of its tag; without a tag, the one under test.
fn previous() -> PathBuf {
    let Some(tag) = last_tag() else {
        // Printed past the capture of libtest, because something was not checked.
        std::io::stderr().write_all(b"upgrade: no release is tagged: both versions are the same program\n").unwrap();
        return env!("CARGO_BIN_EXE_arcgis-credential-operator").into();
    };
    let folder = Path::new(ROOT).join("target/previous");
    let (source, target) = (folder.join(&tag), folder.join("build"));
    if !source.exists() {
        git(&["worktree", "prune"]).unwrap();
        git(&["worktree", "add", "--detach", source.to_str().unwrap(), &tag]).expect("no work tree of the tag");
    }
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--locked", "--target-dir"]).arg(&target).current_dir(&source);
    succeed(&mut build, "");
    target.join("debug/arcgis-credential-operator")
}

/// Returns the names and resourceVersions of the Secrets.
async fn versions(env: &TestEnv) -> Vec<(Option<String>, Option<String>)> {
    let secrets = env.secrets().list(&kube::api::ListParams::default()).await.unwrap();
    secrets.items.into_iter().map(|secret| (secret.metadata.name, secret.metadata.resource_version)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_and_a_rollback_request_nothing_and_write_no_secret() {
    let new = PathBuf::from(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
    let old = tokio::task::spawn_blocking(previous).await.unwrap();
    let mut env = TestEnv::without_operator(&[]).await;
    env.program.clone_from(&old);
    env.start().await;
    for name in ["a", "b", "c"] {
        env.ready(name).await;
    }
    let before = versions(&env).await;
    for program in [&new, &old] {
        assert_eq!(env.terminate().await, Some(0));
        env.program.clone_from(program);
        env.start().await;
        // An unexpected call would be made by then.
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    assert_eq!(["a", "b", "c"].map(|name| env.portal.requests(name)), [1, 1, 1]);
    assert_eq!(versions(&env).await, before);
    // The operator works: it did not merely do nothing.
    env.request_token("a", "now").await;
    env.wait("a", |r| crate::support::fleet::handled(r, "now")).await;
}
