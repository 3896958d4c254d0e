//! The chart as a dependency of another chart, with Helm 4 and Helm 3.

use std::path::Path;

use serde_json::{Value, json};
use testkit::control_plane::ControlPlane;

use super::render::{CHART, HELMS, NAME, objects, of_kind, run_helm};
use crate::support::tools::Printed;

/// Writes a chart that depends on this one, and returns its folder.
fn umbrella(program: &str, home: &Path) -> String {
    let folder = home.join("platform");
    std::fs::create_dir_all(&folder).unwrap();
    let dependency = json!({
        "name": NAME, "version": env!("CARGO_PKG_VERSION"), "repository": format!("file://{CHART}"),
        "condition": format!("{NAME}.enabled"),
    });
    let chart = json!({"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]});
    std::fs::write(folder.join("Chart.yaml"), chart.to_string()).unwrap();
    let values = json!({
        "global": {"imageRegistry": "registry.example.com", "labels": {"team": "gis"}},
        NAME: {"enabled": true, "image": {"repository": "operator"}, "namespaces": ["default"]},
    });
    std::fs::write(folder.join("values.yaml"), values.to_string()).unwrap();
    let folder = folder.to_str().unwrap().to_owned();
    done(run_helm(program, home, &["dependency", "build", &folder], ""));
    folder
}

fn done(printed: Printed) -> String {
    assert!(printed.success, "{}{}", printed.err, printed.out);
    printed.out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_is_a_dependency_with_a_condition_for_helm_4_and_3() {
    let bin = ControlPlane::from_env().unwrap().bin();
    for program in HELMS {
        let plane = ControlPlane::start(&bin, None, false).await.unwrap();
        let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig().display());
        let folder = umbrella(program, plane.dir());
        let helm =
            |arguments: &[&str]| done(run_helm(program, plane.dir(), &[&[&*kubeconfig], arguments].concat(), ""));
        let deployments = || {
            let manifest = objects(&helm(&["get", "manifest", "gis"]));
            of_kind(&manifest, "Deployment").into_iter().cloned().collect::<Vec<Value>>()
        };
        helm(&["install", "gis", &folder]);
        assert_eq!(deployments().len(), 1, "{program}");
        assert_eq!(
            deployments()[0]["spec"]["template"]["spec"]["containers"][0]["image"],
            format!("operator:{}", env!("CARGO_PKG_VERSION"))
        );
        helm(&["upgrade", "gis", &folder, &format!("--set={NAME}.replicaCount=2")]);
        assert_eq!(deployments()[0]["spec"]["replicas"], 2, "{program}");
        helm(&["upgrade", "gis", &folder, &format!("--set={NAME}.enabled=false")]);
        assert!(deployments().is_empty(), "{program}");
        helm(&["uninstall", "gis"]);
        let misspelled =
            run_helm(program, plane.dir(), &["template", "gis", &folder, &format!("--set={NAME}.replicas=2")], "");
        assert!(!misspelled.success && misspelled.err.contains("replicas"), "{program}: {}", misspelled.err);
        plane.stop().await;
    }
}
