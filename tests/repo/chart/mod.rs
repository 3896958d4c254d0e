//! The chart, the overlays, and the files generated from others.

mod cluster;
mod install;
mod pods;
mod render;
mod schemas;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::tools::succeed;
use render::{
    CHART, MATRIX, NAME, ROOT, arguments, comparable, contains, helm, of_kind, overlay, render, rules, try_render,
};

#[test]
fn the_chart_lints_and_can_be_packaged() {
    let home = tempfile::TempDir::new().unwrap();
    let printed = helm(home.path(), &["lint", "--strict", CHART], "");
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
    let embedded = render("prometheusRule: {enabled: true}");
    let rules: Value = serde_saphyr::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap();
    assert_eq!(of_kind(&embedded, "PrometheusRule")[0]["spec"], rules);
}

#[test]
fn a_misspelled_value_is_rejected_by_name() {
    for (values, named) in [
        ("replica: 2", "replica"),
        ("rbac: {userRoles: {aggregate: true}}", "aggregate"),
        ("networkPolicy: {enable: false}", "enable"),
        ("networkPolicy: {metricsFrom: [{podSelektor: {}}]}", "podSelektor"),
        ("image: {tags: x}", "tags"),
        ("resources: {limit: {memory: 1Gi}}", "limit"),
        ("tolerations: [{keys: a}]", "keys"),
        ("namespaces: [Maps]", "namespaces"),
        ("allowedPortals: ['http://gis.example.com']", "allowedPortals"),
        ("allowedPortals: ['https://gis.example.com/portal']", "allowedPortals"),
        ("allowedPortals: []", "allowedPortals"),
        ("logLevel: verbose", "logLevel"),
        ("concurrency: 0", "concurrency"),
        ("openshift: yes please", "openshift"),
        ("podSecurityContext: {runAsuser: 1}", "runAsuser"),
        ("securityContext: {capabilities: {dropped: [ALL]}}", "dropped"),
        ("extraArgs: [--x, 7]", "extraArgs"),
        ("extraEnv: [{name: A, values: b}]", "values"),
        ("extraVolumes: [{name: a, hostPath: {path: /}}]", "hostPath"),
        ("extraVolumes: [{name: a, secret: {name: b}}]", "secretName"),
        ("extraVolumeMounts: [{name: a, mountpath: /a}]", "mountpath"),
        ("hostAliases: [{ip: 192.0.2.1, hostname: a}]", "hostname"),
        ("dnsConfig: {nameserver: [192.0.2.1]}", "nameserver"),
        ("revisionHistoryLimit: -1", "revisionHistoryLimit"),
        ("networkPolicy: {dnsPorts: ['53']}", "dnsPorts"),
        ("serviceMonitor: {enabled: true, scheme: tls}", "scheme"),
        ("podMonitor: {relabelings: [{source_labels: [a]}]}", "source_labels"),
        ("probe: {credentials: app}", "credentials"),
        ("probe: {portal: 'http://gis.example.com'}", "portal"),
    ] {
        let error = try_render(CHART, values).expect_err(values);
        assert!(error.contains("schema") && error.contains(named), "{values}: {error}");
    }
    for (values, expected) in [
        ("{replicas: 2, leaderElection: {enabled: false}}", "more than one needs leaderElection.enabled"),
        ("ca: {configMapName: a, secretName: b}", "not both"),
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
    let two = render("replicas: 2");
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
fn the_dns_ports_are_configurable_and_include_that_of_openshift() {
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
    assert_eq!(ports("{}"), [53]);
    assert_eq!(ports("networkPolicy: {dnsPorts: [53, 1053]}"), [53, 1053]);
    assert_eq!(ports("openshift: true"), [53, 5353]);
    assert_eq!(ports("{openshift: true, networkPolicy: {dnsPorts: [5353]}}"), [5353]);
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
