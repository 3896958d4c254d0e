//! The chart, the overlays, and the files generated from others.

mod cluster;
mod dist;
mod install;
mod notes;
mod pods;
mod render;
mod schemas;
mod umbrella;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::fences::fences;
use crate::support::tools::{succeed, tool};
use render::{
    CHART, HELMS, IMAGE, MATRIX, NAME, ROOT, arguments, comparable, contains, environment, helm, objects, of_kind,
    overlay, render, rules, run_helm, try_render,
};

#[test]
fn the_chart_lints_and_can_be_packaged() {
    let home = tempfile::TempDir::new().unwrap();
    let printed = helm(home.path(), &["lint", "--strict", CHART, IMAGE], "");
    assert!(printed.success, "{}{}", printed.out, printed.err);
    let folder = home.path().to_str().unwrap();
    let printed = helm(home.path(), &["package", CHART, "--destination", folder], "");
    assert!(printed.success, "{}{}", printed.out, printed.err);
    let package = format!("{folder}/arcgis-credential-operator-{}.tgz", env!("CARGO_PKG_VERSION"));
    for values in &MATRIX[..2] {
        assert_eq!(try_render(&package, values), try_render(CHART, values));
    }
}

#[test]
fn chart_and_overlays_have_the_version_of_the_program() {
    let chart: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap()).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    for objects in [render("{}"), overlay("overlays/cluster-wide")] {
        let container = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], format!("{NAME}:{}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_overlay_of_the_operations_page_changes_the_deployment_and_the_ports_of_both_overlays() {
    let page = fences(&Path::new(ROOT).join("docs/operations.md"));
    let text = |word: &str| page.iter().find(|fence| fence.is("yaml", word)).unwrap().text.clone();
    let documented = text("kustomize-overlay") + &text("kustomize-port");
    for base in ["cluster-wide", "namespaced"] {
        let folder = tempfile::TempDir::new().unwrap();
        succeed(Command::new("cp").args(["-r", "deploy", "crds"]).arg(folder.path()).current_dir(ROOT), "");
        let mine = folder.path().join("deploy/kustomize/overlays/mine");
        std::fs::create_dir(&mine).unwrap();
        std::fs::write(mine.join("kustomization.yaml"), documented.replace("../cluster-wide", &format!("../{base}")))
            .unwrap();
        let mut made = objects(&succeed(Command::new(tool("kubectl")).arg("kustomize").arg(&mine), ""));
        let mut original = overlay(&format!("overlays/{base}"));

        // As a variable, because the command `probe` reads it, too.
        assert_eq!(arguments(&made), arguments(&original), "{base}");
        let variables = environment(&made);
        assert_eq!(variables["ARCGIS_OPERATOR_ALLOWED_PORTAL"], "https://www.arcgis.com,https://gis.example.com");
        let pod = &of_kind(&made, "Deployment")[0]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(container["image"], format!("registry.example.com/{NAME}:{version}"));
        let mount = &container["volumeMounts"][0];
        assert!(variables["ARCGIS_OPERATOR_CA_FILE"].starts_with(mount["mountPath"].as_str().unwrap()));
        assert_eq!(mount["name"], pod["volumes"][0]["name"]);

        let policy = original.iter_mut().find(|object| object["kind"] == "NetworkPolicy").unwrap();
        let egress = policy["spec"]["egress"].as_array_mut().unwrap();
        egress.push(json!({"ports": [{"protocol": "TCP", "port": 7443}]}));
        for objects in [&mut made, &mut original] {
            objects.retain(|object| object["kind"] != "Deployment");
        }
        assert_eq!(made, original, "{base}");
    }
}

#[test]
fn the_values_of_the_gitops_page_trust_the_ca_that_they_bring() {
    let page = fences(&Path::new(ROOT).join("docs/gitops.md"));
    let release = objects(&page.iter().find(|fence| fence.is("yaml", "flux-operator")).unwrap().text);
    let made = render(&of_kind(&release, "HelmRelease")[0]["spec"]["values"].to_string());
    let pod = &of_kind(&made, "Deployment")[0]["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap().iter();
    let trusted: Vec<&Value> =
        volumes.filter_map(|volume| volume.pointer("/projected/sources/0/configMap/name")).collect();
    let brought = of_kind(&made, "ConfigMap");
    assert_eq!(trusted, [&brought[0]["metadata"]["name"]]);
    assert!(brought[0]["data"]["ca.crt"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
}

#[test]
fn files_copied_into_the_chart_match_their_sources() {
    let read = |path: &str| std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
    for (copy, original) in [
        ("crd.yaml", "crds/arcgisappcredentials.yaml"),
        ("alerts.yaml", "deploy/monitoring/alerts.yaml"),
        ("dashboard.json", "deploy/monitoring/dashboard.json"),
    ] {
        assert!(read(&format!("deploy/chart/files/{copy}")) == read(original), "{copy}: run make generate");
    }
    let readme = succeed(&mut Command::new(format!("{ROOT}/hack/chart-readme")), "");
    assert!(read("deploy/chart/README.md") == readme, "README.md: run make generate");
}

/// Returns the alerts and recording rules of a rendering, or of the sources, by their names.
fn alerts(spec: &Value) -> Vec<(String, Value)> {
    let rules = spec["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| (rule["alert"].as_str().or(rule["record"].as_str()).unwrap().to_owned(), rule.clone())).collect()
}

#[test]
fn alerts_are_left_out_one_by_one_and_their_runbooks_have_absolute_addresses() {
    let source = std::fs::read_to_string(format!("{ROOT}/deploy/monitoring/alerts.yaml")).unwrap();
    let source = alerts(&serde_saphyr::from_str(&source).unwrap());
    let rendered = |values: &str| alerts(&of_kind(&render(values), "PrometheusRule")[0]["spec"]);
    let base = "https://git.example.com/operator/";
    let all = rendered(&format!("prometheusRule: {{enabled: true, runbookBaseUrl: '{base}'}}"));
    assert_eq!(all.len(), source.len());
    for ((name, rule), (_, original)) in all.iter().zip(&source) {
        let mut expected = original.clone();
        if let Some(url) = expected.pointer_mut("/annotations/runbook_url") {
            *url = json!(format!("{base}{}", url.as_str().unwrap()));
        }
        assert_eq!(*rule, expected, "{name}");
    }
    let without_address = rendered("prometheusRule: {enabled: true}");
    assert!(without_address.iter().all(|(_, rule)| rule.pointer("/annotations/runbook_url").is_none()));
    for (name, _) in source.iter().filter(|(_, rule)| !rule["alert"].is_null()) {
        let rest = rendered(&format!("prometheusRule: {{enabled: true, disabled: {{{name}: true}}}}"));
        assert!(rest.len() < source.len() && rest.iter().all(|(other, _)| other != name), "{name}");
    }
}

#[test]
fn an_image_that_no_registry_has_fails_with_a_sentence() {
    let home = tempfile::TempDir::new().unwrap();
    for program in HELMS {
        let printed = run_helm(program, home.path(), &["template", NAME, CHART, "--kube-version=1.37.0"], "");
        assert!(
            !printed.success && printed.err.contains("image.repository: no registry has an image"),
            "{}",
            printed.err
        );
    }
}

#[test]
fn a_misspelled_value_is_rejected_by_name() {
    for (values, named) in [
        ("replicas: 2", "replicas"),
        ("rbac: {userRoles: {aggregate: true}}", "aggregate"),
        ("networkPolicy: {enable: false}", "enable"),
        ("networkPolicy: {metricsFrom: [Monitoring]}", "metricsFrom"),
        ("image: {tags: x}", "tags"),
        ("image: {pullSecrets: [a]}", "pullSecrets"),
        ("imagePullSecrets: [registry]", "imagePullSecrets"),
        ("crds: {install: true}", "install"),
        ("trust: {configMap: {names: a}}", "names"),
        ("trust: {configmap: {name: a}}", "configmap"),
        ("ca: {configMapName: a}", "ca"),
        ("prometheusRule: {disabled: {ArcGisTokenSlo: true}}", "ArcGisTokenSlo"),
        ("tolerations: {key: a}", "tolerations"),
        ("namespaces: [Maps]", "namespaces"),
        ("allowedPortals: ['http://gis.example.com']", "allowedPortals"),
        ("allowedPortals: ['https://gis.example.com/portal']", "allowedPortals"),
        ("allowedPortals: []", "allowedPortals"),
        ("logLevel: verbose", "logLevel"),
        ("concurrency: 0", "concurrency"),
        ("openshift: true", "openshift"),
        ("podSecurityContext: []", "podSecurityContext"),
        ("extraArgs: [--x, 7]", "extraArgs"),
        ("extraEnv: [A]", "extraEnv"),
        ("extraVolume: []", "extraVolume"),
        ("revisionHistoryLimit: -1", "revisionHistoryLimit"),
        ("networkPolicy: {dnsPorts: ['53']}", "dnsPorts"),
        ("serviceMonitor: {enabled: true, scheme: tls}", "scheme"),
        ("podMonitor: {relabeling: []}", "relabeling"),
        ("probe: {credentials: app}", "credentials"),
        ("probe: {portal: 'http://gis.example.com'}", "portal"),
    ] {
        let error = try_render(CHART, values).expect_err(values);
        assert!(error.contains("schema") && error.contains(named), "{values}: {error}");
    }
    for (values, expected) in [
        ("{replicaCount: 2, leaderElection: {enabled: false}}", "more than one needs leaderElection.enabled"),
        ("trust: {configMap: {name: a}, clusterTrustBundle: {signerName: b}}", "trust: give one of"),
        ("serviceAccount: {create: false}", "serviceAccount.name"),
    ] {
        let error = try_render(CHART, values).expect_err(values);
        assert!(error.contains(expected), "{values}: {error}");
    }
}

#[test]
fn the_values_schema_rejects_unknown_keys() {
    fn walk(path: &str, schema: &Value) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            assert_eq!(schema["additionalProperties"], json!(false), "{path}");
            properties.iter().for_each(|(name, inner)| walk(&format!("{path}.{name}"), inner));
        }
        for inner in ["items", "definitions"] {
            schema.get(inner).into_iter().for_each(|inner| walk(path, inner));
        }
    }
    let text = std::fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    walk("", &schema);
    schema["definitions"].as_object().unwrap().iter().for_each(|(name, inner)| walk(name, inner));
}

#[test]
fn chart_and_overlays_render_the_same_objects() {
    for (values, path) in
        [("{}", "base"), ("{}", "overlays/cluster-wide"), ("namespaces: [maps]", "overlays/namespaced")]
    {
        let (chart, kustomize) = (comparable(render(values)), comparable(overlay(path)));
        assert_eq!(chart.keys().collect::<Vec<_>>(), kustomize.keys().collect::<Vec<_>>(), "{path}");
        for (id, object) in &chart {
            assert!(*object == kustomize[id], "{path}: {id} differs:\n{object}\n{}", kustomize[id]);
        }
    }
}

#[test]
fn no_rendering_grants_more_than_the_operator_uses() {
    let charts = MATRIX.iter().map(|values| (values.contains("guardedOwnerReferences: true"), render(values)));
    let overlays = ["overlays/cluster-wide", "overlays/namespaced"].map(|path| (false, overlay(path)));
    for (guarded, objects) in charts.chain(overlays) {
        let mut secrets = vec![json!(["get", "list", "watch", "create", "patch"])];
        secrets.extend(guarded.then(|| json!(["delete"])));
        for (role, rule) in rules(&objects) {
            for list in ["apiGroups", "resources", "verbs", "resourceNames"] {
                assert!(!contains(&rule, list, "*"), "{role}: {rule}");
            }
            for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
                assert!(!contains(&rule, "verbs", verb), "{role}: {rule}");
            }
            assert!(!contains(&rule, "resources", "serviceaccounts/token"), "{role}: {rule}");
            let on_secrets = contains(&rule, "resources", "secrets");
            assert!(!on_secrets || secrets.contains(&rule["verbs"]), "{role}: {rule}");
        }
    }
}

#[test]
fn only_the_editor_role_is_aggregated_and_only_when_enabled() {
    let aggregated = |values: &str| {
        let objects = render(values);
        let roles = of_kind(&objects, "ClusterRole").into_iter();
        let ours = roles.filter(|role| role["metadata"]["labels"].to_string().contains("aggregate"));
        ours.map(|role| role["metadata"]["name"].clone()).collect::<Vec<Value>>()
    };
    assert!(aggregated("{}").is_empty());
    let editor = "arcgis-credential-operator-editor";
    assert_eq!(aggregated("rbac: {userRoles: {aggregateToEdit: true}}"), [editor]);
}

#[test]
fn with_namespaces_the_permissions_on_secrets_are_limited_to_them() {
    for objects in [render("namespaces: [maps, gis]"), overlay("overlays/namespaced")] {
        let on_secrets: Vec<String> = rules(&objects)
            .into_iter()
            .filter(|(_, rule)| contains(rule, "resources", "secrets"))
            .map(|(role, _)| role)
            .collect();
        assert!(on_secrets.contains(&"Role maps/arcgis-credential-operator-namespace".to_owned()), "{on_secrets:?}");
        assert!(on_secrets.iter().all(|role| role.starts_with("Role maps/") || role.starts_with("Role gis/")));
        assert!(of_kind(&objects, "ClusterRoleBinding").is_empty());
        assert!(arguments(&objects).contains(&"--namespace=maps".to_owned()));
    }
}

#[test]
fn several_replicas_get_a_disruption_budget_and_a_topology_spread() {
    let one = render("{}");
    assert!(of_kind(&one, "PodDisruptionBudget").is_empty());
    let two = render("replicaCount: 2");
    let budget = of_kind(&two, "PodDisruptionBudget")[0];
    let deployment = of_kind(&two, "Deployment")[0];
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"];
    assert_eq!(spread[0]["topologyKey"], "kubernetes.io/hostname");
}

#[test]
fn the_egress_ports_are_those_of_the_portals_and_the_proxy() {
    let ports = |values: &str| {
        let objects = render(values);
        let policy = of_kind(&objects, "NetworkPolicy")[0]["spec"].clone();
        assert_eq!(policy["ingress"], json!([{"ports": [{"protocol": "TCP", "port": 8080}]}]));
        let ports = policy["egress"][1]["ports"].as_array().unwrap().iter().map(|port| port["port"].clone());
        ports.collect::<Vec<Value>>()
    };
    assert_eq!(ports("{}"), [443, 6443]);
    let portals =
        "allowedPortals: ['https://a.example.com:7443', 'https://*.b.example.com:7443/', 'https://c', 'https://[::1]']";
    assert_eq!(ports(portals), [443, 6443, 7443]);
    assert_eq!(ports("proxy: {url: 'http://proxy.example.com:3128'}"), [443, 3128, 6443]);
    assert_eq!(ports("proxy: {url: 'http://proxy.example.com'}"), [80, 443, 6443]);
    assert_eq!(ports("networkPolicy: {apiServerPorts: [8443, 16443], extraEgressPorts: [9]}"), [9, 443, 8443, 16443]);
}

#[test]
fn the_dns_ports_are_in_a_list_with_that_of_openshift() {
    let ports = |values: &str| {
        let objects = render(values);
        let ports = of_kind(&objects, "NetworkPolicy")[0]["spec"]["egress"][0]["ports"].as_array().unwrap().clone();
        let of = |protocol: &str| {
            let of_it = ports.iter().filter(|port| port["protocol"] == protocol);
            of_it.map(|port| port["port"].clone()).collect::<Vec<Value>>()
        };
        assert_eq!(of("UDP"), of("TCP"));
        of("UDP")
    };
    assert_eq!(ports("{}"), [53, 5353]);
    assert_eq!(ports("networkPolicy: {dnsPorts: [53, 1053]}"), [53, 1053]);
}

#[test]
fn user_roles_read_the_status_and_do_not_write_it() {
    for objects in [render("{}"), overlay("base")] {
        let mut verbs = rules(&objects);
        verbs.sort_by(|one, other| one.0.cmp(&other.0));
        verbs.retain(|(role, rule)| {
            !role.ends_with("/arcgis-credential-operator") && contains(rule, "resources", "arcgisappcredentials/status")
        });
        let verbs: Vec<(&str, &Value)> = verbs.iter().map(|(role, rule)| (role.as_str(), &rule["verbs"])).collect();
        let get = json!(["get"]);
        let roles = ["editor", "viewer"].map(|role| format!("ClusterRole /{NAME}-{role}"));
        assert_eq!(verbs, roles.each_ref().map(|role| (role.as_str(), &get)));
    }
}

#[test]
fn one_value_limits_who_may_connect_to_the_metrics_port() {
    let objects = render("networkPolicy: {metricsFrom: [monitoring, {podSelector: {}}]}");
    let by_name = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}});
    let from = &of_kind(&objects, "NetworkPolicy")[0]["spec"]["ingress"][0]["from"];
    assert_eq!(*from, json!([by_name, {"podSelector": {}}]));
}
