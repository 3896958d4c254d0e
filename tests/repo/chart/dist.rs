//! What `make dist` writes, but for the SBOM.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::render::{CHART, HELMS, NAME, ROOT, objects, of_kind, overlay, run_helm};
use crate::support::tools::{Printed, run, succeed, tool};

const IMAGE: &str = "registry.example.com/gis/arcgis-credential-operator";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Runs the script with these variables.
pub fn dist(folder: &Path, variables: &[(&str, &str)]) -> Printed {
    let path = std::env::var_os("PATH").unwrap();
    let kubectl = tool("kubectl").parent().unwrap().to_owned();
    let path = std::env::join_paths([kubectl].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new(format!("{ROOT}/hack/dist"));
    for name in ["IMAGE", "DIGEST", "REPOSITORY_URL", "TAG", "SOURCE_DATE_EPOCH"] {
        command.env_remove(name);
    }
    run(command.arg(folder).env("PATH", path).envs(variables.iter().copied()), "")
}

/// Returns the files of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn a_release_has_the_image_by_digest_and_the_same_bytes_each_time() {
    let folder = tempfile::TempDir::new().unwrap();
    let made = ["one", "two"].map(|name| folder.path().join(name));
    let variables = [
        ("IMAGE", IMAGE),
        ("DIGEST", DIGEST),
        ("REPOSITORY_URL", "https://git.example.com/gis/operator"),
        ("TAG", "v9.9.9"),
    ];
    for path in &made {
        let printed = dist(path, &variables);
        assert!(printed.success, "{}", printed.err);
        // The archive must not hold the time of the day.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let first = files(&made[0]);
    assert!(first == files(&made[1]));
    let chart = format!("{NAME}-{}.tgz", env!("CARGO_PKG_VERSION"));
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(names, ["alerts.yaml", &chart, "crd.yaml", "dashboard.json", "install-namespaced.yaml", "install.yaml"]);

    let reference = format!("{IMAGE}@{DIGEST}");
    for (file, path) in [("install.yaml", "overlays/cluster-wide"), ("install-namespaced.yaml", "overlays/namespaced")]
    {
        let (made, mut expected) = (objects(std::str::from_utf8(&first[file]).unwrap()), overlay(path));
        let deployment = expected.iter_mut().find(|object| object["kind"] == "Deployment").unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = Value::from(reference.clone());
        assert_eq!(made, expected, "{file}");
    }
    for program in HELMS {
        let package = made[0].join(&chart);
        let values = "--set=prometheusRule.enabled=true";
        let arguments = ["template", NAME, package.to_str().unwrap(), "--kube-version=1.37.0", values];
        let printed = run_helm(program, folder.path(), &arguments, "");
        assert!(printed.success, "{program}: {}", printed.err);
        let rendered = objects(&printed.out);
        assert_eq!(
            of_kind(&rendered, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["image"],
            *reference
        );
        let runbook =
            "https://git.example.com/gis/operator/blob/v9.9.9/deploy/monitoring/runbooks/ArcGisTokenExpired.md";
        assert!(printed.out.contains(runbook) && String::from_utf8_lossy(&first["alerts.yaml"]).contains(runbook));
    }
    let lint = run_helm(HELMS[0], folder.path(), &["lint", "--strict", made[0].join(&chart).to_str().unwrap()], "");
    assert!(lint.success, "{}", lint.out);
}

#[test]
fn a_pushed_image_without_its_digest_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let printed = dist(folder.path(), &[("IMAGE", IMAGE)]);
    assert!(!printed.success && printed.err.contains("DIGEST"), "{}", printed.err);
    assert!(dist(folder.path(), &[("IMAGE", IMAGE), ("DIGEST", "sha256:1")]).err.contains("64 digits"));
    // Nothing but the chart of the sources.
    let listed = succeed(Command::new("find").arg(CHART).args(["-name", "*.tgz"]), "");
    assert_eq!(listed, "");
}
