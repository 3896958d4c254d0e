//! The documents match the code: every field, key, reason, flag and metric, every link, every named test, every command
//! and every manifest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::fences::{fences, script};
use crate::support::tools::{folder, run, succeed};
use arcgis_credential_operator::api::{Format, Reason, Recovery, Retry, crd};
use arcgis_credential_operator::cli::Cli;
use arcgis_credential_operator::index::Index;
use arcgis_credential_operator::ops::Metrics;
use clap::CommandFactory;
use jiff::Timestamp;
use serde_json::Value;
use testkit::control_plane::ControlPlane;
use testkit::portal::{Certificate, Portal};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn reference() -> String {
    std::fs::read_to_string(root().join("docs/reference.md")).unwrap()
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Returns the words between backticks that have this prefix.
fn words(prefix: &str) -> BTreeSet<String> {
    let words = quoted(&reference()).into_iter().filter_map(|text| text.split(' ').next().map(str::to_owned));
    words.filter(|word| word.starts_with(prefix) && word.len() > prefix.len()).collect()
}

/// Collects the paths of the leaves, and of objects with arbitrary content.
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
    let documented: BTreeSet<String> = words("spec.").union(&words("status.")).cloned().collect();
    assert_eq!(documented, fields.into_iter().filter(|f| f.starts_with("spec.") || f.starts_with("status.")).collect());
}

#[test]
fn the_reference_lists_every_reason_its_recovery_and_its_retry() {
    let text = reference();
    for reason in Reason::ALL {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{reason}` |")));
        let row = row.unwrap_or_else(|| panic!("{reason} is missing"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (action_required, retry) = (cells[3], cells[4]);
        let expected = if reason.recovery() == Recovery::ActionRequired { "yes" } else { "no" };
        assert_eq!(action_required, expected, "{reason}");
        let time = |seconds: u32| match seconds {
            3600.. => format!("{} h", seconds / 3600),
            60.. => format!("{} m", seconds / 60),
            _ => format!("{seconds} s"),
        };
        match reason.retry() {
            Retry::OnChange => assert_eq!(retry.split(';').next(), Some("on change"), "{reason}"),
            Retry::RetryAfter => assert!(retry.starts_with("as the portal states"), "{reason}"),
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
    let mut found: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name)).into();
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

/// Returns the targets of a document's links.
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
fn every_link_has_a_target() {
    let mut followed = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} has no target", document.display());
            if let Some(anchor) = anchor {
                let known = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(known.contains(anchor), "{}: {link} has no target", document.display());
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
            let (function, constant) = (format!("fn {name}("), format!("const {name}:"));
            let known = source.contains(&function) || source.contains(&constant);
            assert!(known, "{}: {file}.rs::{name}", document.display());
            named += 1;
        }
    }
    assert!(named > 20);
}

#[test]
fn troubleshooting_has_a_section_for_every_reason() {
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    for reason in Reason::ALL {
        let (_, section) =
            text.split_once(&format!("\n### {reason}\n")).unwrap_or_else(|| panic!("{reason} is missing"));
        let section = section.split("\n#").next().unwrap();
        for part in ["**Means.**", "**Check.**", "**Do.**"] {
            assert!(section.contains(part), "{reason}: {part}");
        }
    }
}

#[test]
fn the_readme_shows_a_recording_of_every_step_of_the_demo() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("](docs/demo.svg)"));
    let recording = std::fs::read_to_string(root().join("docs/demo.svg")).unwrap();
    let demo = std::fs::read_to_string(root().join("hack/demo")).unwrap();
    let steps: Vec<&str> = demo.lines().filter_map(|line| line.trim_start().strip_prefix("say \"")).collect();
    assert!(steps.len() > 8);
    for (at, step) in steps.iter().enumerate() {
        let line = format!("== {}/{} {}", at + 1, steps.len(), step.trim_end_matches('"').replace("\" \"", ": "));
        assert!(recording.contains(&format!(">{line}<")), "run make demo-recording: docs/demo.svg has no \"{line}\"");
    }
}

/// Returns the first two string literals after each `.step(` of the sources, as `make e2e` prints them.
fn steps_of_the_node() -> BTreeSet<String> {
    let sources = ["steps", "disturbances"].map(|name| root().join(format!("tests/node/{name}.rs")));
    let text: String = sources.iter().map(|source| std::fs::read_to_string(source).unwrap()).collect();
    let calls = text.split(".step(").skip(1).map(|rest| rest.split('"').collect::<Vec<&str>>());
    calls.map(|parts| format!("{}: {}", parts[1], parts[3])).collect()
}

/// Returns the names of the tests in a folder, as the test runner prints them.
fn tests_in(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("tests/e2e").join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let functions = text.split("#[test]\n").skip(1).chain(text.split("#[tokio::test").skip(1));
        let names = functions.map(|rest| rest.split("fn ").nth(1).unwrap().split('(').next().unwrap());
        found.extend(names.map(|name| format!("{folder}::{module}::{name}")));
    }
    found
}

#[test]
fn the_page_of_the_runs_shows_every_step_and_every_test() {
    let page = root().join("docs/development/runs.md");
    let shown: Vec<String> = fences(&page).into_iter().filter(|fence| fence.is("text", "")).map(|f| f.text).collect();
    let [node, examples, gitops] = &shown[..] else { panic!("not three runs") };
    let steps = steps_of_the_node();
    let titles: Vec<&str> = node.lines().filter_map(|line| line.strip_prefix("== ")).collect();
    for (at, title) in titles.iter().enumerate() {
        let (number, title) = title.split_once(' ').unwrap();
        assert_eq!(number, format!("{}/{}", at + 1, steps.len()));
        assert!(steps.contains(title), "make e2e has no step \"{title}\"");
    }
    assert_eq!(titles.len(), steps.len());
    for (folder, run) in [("examples", examples), ("gitops", gitops)] {
        let passed = run.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
        assert_eq!(passed.map(str::to_owned).collect::<BTreeSet<_>>(), tests_in(folder), "make {folder}");
    }
}

/// Returns the README, CONTRIBUTING and the pages in docs.
pub fn pages() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    found.extend(documents().into_iter().filter(|path| path.starts_with(root().join("docs"))));
    found
}

/// The commands of a page that run in one cluster, and the test that runs them. Blocks marked `noexec` need a node or a
/// portal.
const RUN: &[(&str, &str, &str)] = &[
    ("README.md", "helm", INSTALL),
    ("README.md", "kustomize", INSTALL),
    ("docs/operations.md", "uninstall-helm", INSTALL),
    ("docs/operations.md", "uninstall-kustomize", INSTALL),
    ("docs/operations.md", "remove-resources", INSTALL),
    ("docs/operations.md", "remove-crd", INSTALL),
    ("docs/operations.md", "helm", HERE),
    ("docs/operations.md", "helm-namespaces", HERE),
    ("docs/operations.md", "kustomize", HERE),
    ("docs/operations.md", "kustomize-namespaces", HERE),
    ("docs/operations.md", "shards", HERE),
    ("docs/gitops.md", "argocd", "tests/e2e/gitops/argocd.rs"),
    ("docs/migration.md", "cronjob", "tests/e2e/migration.rs"),
    ("docs/migration.md", "rollback", "tests/e2e/migration.rs"),
];
const HERE: &str = "tests/repo/docs.rs";
const INSTALL: &str = "tests/repo/chart/install.rs";
/// The languages of code blocks without commands.
const OTHERS: [&str; 4] = ["yaml", "text", "rust", "mermaid"];

#[test]
fn every_code_block_has_a_language_and_every_command_is_run_or_marked() {
    let mut found = BTreeSet::new();
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        for fence in fences(&page) {
            let word = |at: usize| fence.words.get(at).map_or("", String::as_str);
            match (word(0), word(1)) {
                ("sh", "noexec") => {}
                ("sh", cluster) => {
                    let known = RUN.iter().find(|(page, word, _)| *page == name && *word == cluster);
                    let (_, _, test) = known.unwrap_or_else(|| panic!("{name}:{}: nothing runs it", fence.line));
                    let test = std::fs::read_to_string(root().join(test)).unwrap();
                    assert!(test.contains(&format!("\"{cluster}\"")), "{name}: {cluster} is not run");
                    found.insert((name.clone(), cluster.to_owned()));
                }
                (other, _) => assert!(OTHERS.contains(&other), "{name}:{}: unknown language", fence.line),
            }
        }
    }
    assert_eq!(found.len(), RUN.len());
}

/// Returns a shell with the required programs in PATH, and with the files that the commands of a page use.
fn bash(plane: &ControlPlane, text: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap();
    let path = [plane.bin()].into_iter().chain(std::env::split_paths(&path)).chain([folder()]);
    let mut command = Command::new("bash");
    command.args(["-c", text]).current_dir(root()).env("PATH", std::env::join_paths(path).unwrap());
    command.env("KUBECONFIG", plane.kubeconfig()).env("BACKUP", plane.dir().join("backup.yaml"));
    for (variable, file, text) in [("CLIENT_ID_FILE", "id", "app"), ("CLIENT_SECRET_FILE", "secret", "secret")] {
        std::fs::write(plane.dir().join(file), text).unwrap();
        command.env(variable, plane.dir().join(file));
    }
    for (variable, name) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
        command.env(variable, plane.dir().join(name));
    }
    command
}

async fn empty_cluster() -> ControlPlane {
    ControlPlane::start(&ControlPlane::from_env().unwrap().bin(), None, false).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_pages_work_in_an_empty_cluster() {
    for (page, cluster, _) in RUN.iter().filter(|(_, _, test)| *test == HERE) {
        let plane = empty_cluster().await;
        succeed(&mut bash(&plane, &script(&root().join(page), cluster)), "");
        plane.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_of_the_pages_and_the_examples_pass_strict_validation() {
    let plane = empty_cluster().await;
    let setup = "kubectl apply --server-side -k crds && kubectl create namespace maps \
                 && kubectl wait --for=condition=Established crd --all";
    succeed(&mut bash(&plane, setup), "");
    let mut manifests = Vec::new();
    for page in pages() {
        for fence in fences(&page).iter().filter(|fence| fence.is("yaml", "")) {
            let whole = fence.text.starts_with("apiVersion:") && !fence.text.contains("kustomize.config.k8s.io");
            manifests.extend(whole.then(|| (format!("{}:{}", page.display(), fence.line), fence.text.clone())));
        }
    }
    for example in ["", "browser-token", "envoy", "integrations", "resource-proxy"]
        .map(|folder| root().join("examples").join(folder))
    {
        let files = std::fs::read_dir(example).unwrap().map(|entry| entry.unwrap().path());
        for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
            // The kind of another project.
            if !file.ends_with("trust-manager.yaml") {
                manifests.push((file.display().to_string(), std::fs::read_to_string(&file).unwrap()));
            }
        }
    }
    assert!(manifests.len() > 6);
    let apply = "kubectl apply --dry-run=server --validate=strict -f -";
    for (place, text) in &manifests {
        let printed = run(&mut bash(&plane, apply), text);
        assert!(printed.success, "{place}: {}", printed.err);
    }
    assert!(!run(&mut bash(&plane, apply), &manifests[0].1.replace("spec:", "spec:\n  misspelled: 1")).success);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_without_credentials_reports_that_the_connection_works() {
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let (_, text) = text.split_once("**Without credentials.**").unwrap();
    let (_, command) = text.split_once("-- /arcgis-credential-operator probe \\\n").unwrap();
    let command = command.split("\n```").next().unwrap();
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("namespace"), "arcgis-credential-operator").unwrap();
    std::fs::write(folder.path().join("ca.crt"), portal.ca()).unwrap();
    let command = command
        .replace("https://www.arcgis.com", &portal.url())
        .replace("/var/run/secrets/kubernetes.io/serviceaccount", &folder.path().display().to_string())
        .replace('\\', "");
    let mut probe = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
    probe.arg("probe").args(command.split_whitespace()).arg("--ca-file").arg(folder.path().join("ca.crt"));
    let printed = tokio::task::spawn_blocking(move || run(&mut probe, "")).await.unwrap();
    assert!(!printed.success && printed.err.contains("ClientIdRejected"), "{}{}", printed.err, printed.out);
}
