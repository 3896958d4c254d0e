//! The monitoring files — alerts, runbooks, dashboard — and the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::tools::{run, succeed, tool};
use crate::support::{SECRET, TestEnv, is};
use arcgis_credential_operator::api::{Reason, Recovery};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::portal::App;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring");
/// A rate needs two scrapes, and the rules one more evaluation.
const TIMEOUT: Duration = Duration::from_secs(30);

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn rules() -> Vec<Value> {
    let groups = yaml(&Path::new(FOLDER).join("alerts.yaml"));
    array(&groups, "groups").iter().flat_map(|group| array(group, "rules").to_vec()).collect()
}

/// Returns the alerting rules by name.
fn alerts() -> BTreeMap<String, Value> {
    let named = rules().into_iter().filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule.clone())));
    named.collect()
}

fn unit_tests() -> Vec<PathBuf> {
    let files = std::fs::read_dir(format!("{FOLDER}/tests")).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn the_rules_are_valid_and_pass_their_unit_tests() {
    succeed(Command::new(tool("promtool")).args(["check", "rules", &format!("{FOLDER}/alerts.yaml")]), "");
    succeed(Command::new(tool("promtool")).args(["test", "rules"]).args(unit_tests()), "");
}

#[test]
fn each_alert_has_a_firing_test_a_silent_test_and_a_runbook() {
    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for path in unit_tests() {
        for test in array(&yaml(&path), "tests") {
            for alert in array(test, "alert_rule_test") {
                let seen = if array(alert, "exp_alerts").is_empty() { &mut silent } else { &mut firing };
                seen.insert(alert["alertname"].as_str().unwrap().to_owned());
            }
        }
    }
    let alerts = alerts();
    let named: BTreeSet<String> = alerts.keys().cloned().collect();
    assert_eq!(named, firing);
    assert_eq!(named, silent);
    for (name, rule) in &alerts {
        let runbook = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert_eq!(runbook, format!("deploy/monitoring/runbooks/{name}.md"));
        let text = std::fs::read_to_string(format!("{ROOT}/{runbook}")).expect(name);
        for part in ["**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**"] {
            assert!(text.contains(part), "{runbook} lacks {part}");
        }
        for field in ["summary", "description"] {
            assert!(rule["annotations"][field].is_string(), "{name} lacks {field}");
        }
    }
    let runbooks = std::fs::read_dir(format!("{FOLDER}/runbooks")).unwrap();
    let runbooks: BTreeSet<String> =
        runbooks.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(named, runbooks);
}

#[test]
fn the_reasons_that_require_action_are_those_of_the_program() {
    let theirs: Vec<&str> =
        Reason::ALL.iter().filter(|r| r.recovery() == Recovery::ActionRequired).map(|r| r.as_str()).collect();
    let pattern = format!("reason=~\"{}\"", theirs.join("|"));
    assert!(alerts()["ArcGisCredentialStalled"]["expr"].as_str().unwrap().contains(&pattern), "alerts.yaml: {pattern}");
    assert!(queries().iter().any(|query| query.contains(&pattern)), "dashboard.json: {pattern}");
    let runbook = std::fs::read_to_string(format!("{FOLDER}/runbooks/ArcGisCredentialStalled.md")).unwrap();
    assert!(theirs.iter().all(|reason| runbook.contains(&format!("`{reason}`"))), "the runbook lacks a reason");
    let portals = alerts()["ArcGisPortalFailing"]["expr"].as_str().unwrap().to_owned();
    let named = portals.split('"').nth(1).unwrap().split('|');
    assert!(named.into_iter().all(|reason| Reason::parse(reason).is_some()), "{portals}");
}

/// Returns every query of the dashboard.
fn queries() -> Vec<String> {
    let text = std::fs::read_to_string(format!("{FOLDER}/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let targets = array(&dashboard, "panels").iter().flat_map(|panel| array(panel, "targets"));
    let queries: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(queries.len() > 20);
    queries
}

/// A Prometheus that scrapes an operator every second with the rules of this repository; dropping it stops it.
struct Prometheus {
    child: std::process::Child,
    url: String,
    _dir: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(operator: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let port = testkit::free_address().unwrap().port();
        let job = |name: &str, address: &str| json!({"job_name": name, "honor_labels": true, "static_configs": [{"targets": [address]}]});
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [format!("{FOLDER}/alerts.yaml")],
            "scrape_configs": [job("operator", operator), job("prometheus", &format!("127.0.0.1:{port}"))],
        });
        let path = dir.path().join("prometheus.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let child = Command::new(tool("prometheus"))
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://127.0.0.1:{port}"), _dir: dir }
    }

    /// Returns the series of a query; an error while Prometheus starts, and for an invalid query.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let arguments = ["query", "instant", "--format=json", &self.url, query];
        let printed = run(Command::new(tool("promtool")).args(arguments), "");
        if !printed.success {
            return Err(printed.err);
        }
        Ok(serde_json::from_str(&printed.out).unwrap())
    }

    fn wait(&self, query: &str) -> Vec<Value> {
        let until = Instant::now() + TIMEOUT;
        loop {
            match self.query(query) {
                Ok(series) if !series.is_empty() => return series,
                answer => assert!(Instant::now() < until, "{query}: {answer:?}"),
            }
            // Nothing can be awaited for the next scrape.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Returns an environment with two ready resources and one that is stalled.
async fn env() -> TestEnv {
    let env = TestEnv::new().await;
    env.ready("one").await;
    env.ready("two").await;
    env.change("one", json!({"spec": {"verification": {}}})).await;
    env.wait("one", |r| is(r, "Verified", "True", "AppKnown")).await;
    env.portal.app("three", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("three-oauth", "three", "wrong").await;
    env.apply(&env.manifest("three", "three-oauth")).await;
    env.wait("three", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    let issued = testkit::pki::Authority::new("clients").unwrap().issue("two").unwrap();
    let secret = json!({"metadata": {"name": "client"}, "type": "kubernetes.io/tls",
                        "stringData": {"tls.crt": issued.certificate, "tls.key": issued.key}});
    let params = kube::api::PostParams::default();
    env.secrets().create(&params, &serde_json::from_value(secret).unwrap()).await.unwrap();
    env.change("two", json!({"spec": {"portal": {"clientCertificateRef": {"name": "client"}}}})).await;
    env.portal.wait_for_requests("two", 2, TIMEOUT).await.unwrap();
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_returns_data() {
    let env = env().await;
    let prometheus = Prometheus::start(&env.admin.to_string());
    let ready = prometheus.wait("arcgis_credential_ready == 1");
    assert_eq!(ready.len(), 2, "{ready:?}");
    assert!(ready.iter().all(|series| series["metric"]["namespace"] == env.namespace.as_str()), "{ready:?}");
    for query in queries() {
        prometheus.wait(&query.replace("$__rate_interval", "1m").replace("$namespace", ".*"));
    }
    prometheus.wait("sum(prometheus_rule_evaluations_total) > 0");
    let failures = prometheus.wait("sum(prometheus_rule_evaluation_failures_total)");
    assert_eq!(failures[0]["value"][1], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_pass_the_check_of_promtool() {
    let env = env().await;
    let answer = env.http_get("/metrics").await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let printed = run(Command::new(tool("promtool")).args(["check", "metrics"]), body);
    assert!(printed.success && printed.out.is_empty() && printed.err.is_empty(), "{}{}", printed.out, printed.err);
}

/// The commands and the queries in the blocks of the runbooks, with their pages. Lines that end with a backslash go on.
fn commands() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(format!("{FOLDER}/runbooks")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
        let blocks = text.split("```").skip(1).step_by(2).map(str::to_owned);
        let lines = blocks.flat_map(|block| block.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
        let page = path.file_stem().unwrap().to_str().unwrap().to_owned();
        found.extend(lines.filter(|line| !line.is_empty()).map(|line| (page.clone(), line)));
    }
    found
}

/// They need a kubelet or a pod of the operator: `make e2e` has these.
const NEED_A_NODE: [&str; 4] = [" logs ", " exec ", " port-forward ", "curl "];

#[tokio::test(flavor = "multi_thread")]
async fn every_command_and_every_query_of_the_runbooks_works() {
    let env = env().await;
    let prometheus = Prometheus::start(&env.admin.to_string());
    prometheus.wait("arcgis_credential_ready == 1");
    let folder = TempDir::new().unwrap();
    let issued = testkit::pki::Authority::new("clients").unwrap().issue("two").unwrap();
    std::fs::write(folder.path().join("new.crt"), &issued.certificate).unwrap();
    std::fs::write(folder.path().join("new.key"), &issued.key).unwrap();
    let path = format!("{}:{}", env.plane.bin().display(), std::env::var("PATH").unwrap());
    let (mut run_here, mut queried) = (0, 0);
    for (page, line) in commands() {
        let command = line.replace("NAMESPACE", &env.namespace).replace("OPERATOR", "arcgis-credential-operator");
        let command = command.replace("NAME", "two").replace("SECRET", "client").replace("PORTAL", "localhost");
        if NEED_A_NODE.iter().any(|word| command.contains(word)) {
            continue;
        }
        if command.starts_with("kubectl ") {
            let mut bash = Command::new("bash");
            bash.args(["-c", &format!("set -euo pipefail; {command}")]).current_dir(&folder);
            bash.env("KUBECONFIG", env.plane.kubeconfig()).env("PATH", &path);
            let printed = tokio::task::spawn_blocking(move || run(&mut bash, "")).await.unwrap();
            // An answer of "no" is one, too; the Lease exists only where one is elected.
            let answered =
                printed.out.trim() == "no" || (command.contains(" get lease ") && printed.err.contains("NotFound"));
            assert!(printed.success || answered, "{page}: {command}: {}{}", printed.out, printed.err);
            run_here += 1;
        } else {
            let answer = prometheus.query(&command);
            assert!(answer.is_ok(), "{page}: {command}: {answer:?}");
            queried += 1;
        }
    }
    assert!(run_here >= 20 && queried >= 6, "{run_here} commands, {queried} queries");
}
