//! Renderings of the chart and of the overlays.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::tools::{Printed, run, succeed, tool};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/chart");
pub const NAME: &str = "arcgis-credential-operator";

/// Values that together reach every branch of the templates.
pub const MATRIX: &[&str] = &[
    "{}",
    "namespaces: [maps]",
    "{namespaces: [maps, gis], replicaCount: 3, selector: team=maps, leaderElection: {leaseName: other}}",
    "{trust: {configMap: {name: roots}}, proxy: {url: 'http://proxy.example.com:3128', noProxy: .internal}}",
    "{trust: {secret: {name: roots, key: roots.pem}}, allowedPortals: ['https://*.example.com:7443']}",
    "{image: {registry: registry.example.com, repository: operator, pullPolicy: Always,
      digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'},
      imagePullSecrets: [{name: registry}]}",
    "{podMonitor: {enabled: true, labels: {release: prometheus}}, dashboard: {enabled: true},
      prometheusRule: {enabled: true, runbookBaseUrl: 'https://git.example.com/operator/',
        disabled: {ArcGisTokenSloSlowBurn: true}}}",
    "rbac: {guardedOwnerReferences: true, userRoles: {aggregateToEdit: true}}",
    "{rbac: {create: false}, serviceAccount: {create: false, name: other}, resources: {requests: null, limits: null}}",
    "{leaderElection: {enabled: false}, networkPolicy: {enabled: false}, crds: {enabled: false}}",
    "{commonLabels: {team: gis}, commonAnnotations: {owner: gis}, podLabels: {tier: ops}, podAnnotations: {a: b},
      serviceAccount: {annotations: {a: b}}, nodeSelector: {pool: a}, priorityClassName: system-cluster-critical,
      tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 30}],
      affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [
        {matchExpressions: [{key: pool, operator: In, values: [a]}]}]}}},
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule,
        labelSelector: {matchLabels: {app.kubernetes.io/name: arcgis-credential-operator}}}],
      networkPolicy: {metricsFrom: [monitoring, {namespaceSelector: {matchLabels: {name: m}}}], extraEgressPorts: [8443]}}",
    "{serviceMonitor: {enabled: true, scrapeTimeout: 10s, scheme: https, labels: {release: prometheus},
      relabelings: [{sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: node}],
      metricRelabelings: [{action: labeldrop, regex: pod}]},
      podMonitor: {enabled: true, scrapeTimeout: 10s, scheme: https, relabelings: [{action: drop, regex: a,
      sourceLabels: [b], separator: ;}]}, service: {port: 80, labels: {a: b}, annotations: {a: b}}}",
    EXTRAS,
    "{probe: {credentialsSecret: app}, networkPolicy: {enabled: false}}",
];

/// Values that add to the pods what an installation may need.
pub const EXTRAS: &str =
    "{probe: {credentialsSecret: app, portal: 'https://gis.example.com/portal', referer: 'https://a.example.com',
      clientIDKey: id, clientSecretKey: secret}, service: {enabled: true}, revisionHistoryLimit: 2,
      strategy: {rollingUpdate: {maxUnavailable: 1}}, deploymentAnnotations: {a: b}, global: {any: {thing: [1]}}, enabled: true,
      extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}-map'}},
        'apiVersion: v1\n\nkind: Secret\n\nmetadata: {name: text}'],
      podSecurityContext: {fsGroup: 1000680000, seccompProfile: {type: RuntimeDefault}, supplementalGroups: [1]},
      securityContext: {runAsUser: 1000680000, seLinuxOptions: {level: 's0:c26,c15'}},
      extraArgs: ['--allowed-portal=https://gis.example.com'],
      extraEnv: [{name: A, value: b}, {name: C, valueFrom: {secretKeyRef: {name: d, key: e, optional: true}}},
        {name: F, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}],
      extraVolumes: [{name: roots, projected: {sources: [{configMap: {name: a, items: [{key: b, path: c}]}},
        {serviceAccountToken: {path: t, audience: vault}}]}}, {name: tmp, emptyDir: {medium: Memory, sizeLimit: 1Mi}},
        {name: vault, csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {a: b}}},
        {name: files, secret: {secretName: a, defaultMode: 288}}],
      extraVolumeMounts: [{name: roots, mountPath: /roots, readOnly: true}, {name: tmp, mountPath: /tmp},
        {name: vault, mountPath: /vault}, {name: files, mountPath: /files, subPath: a}],
      hostAliases: [{ip: 192.0.2.1, hostnames: [gis.example.com]}],
      dnsConfig: {nameservers: [192.0.2.53], searches: [example.com], options: [{name: ndots, value: '1'}]}}";

/// Helm 4 and Helm 3.
pub const HELMS: [&str; 2] = ["helm", "helm3"];

/// Runs Helm 4 with a separate home folder.
pub fn helm(home: &Path, arguments: &[&str], values: &str) -> Printed {
    run_helm(HELMS[0], home, arguments, values)
}

/// Runs one of both with a separate home folder.
pub fn run_helm(program: &str, home: &Path, arguments: &[&str], values: &str) -> Printed {
    let mut command = Command::new(tool(program));
    for (variable, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, home.join(folder));
    }
    run(command.args(arguments), values)
}

/// The image of the source tree, which no registry has.
pub const IMAGE: &str = "--set=image.repository=arcgis-credential-operator";

/// Returns what the chart renders in the namespace `arcgis-credential-operator`, or Helm's error.
pub fn try_render(chart: &str, values: &str) -> Result<String, String> {
    let image = if values.contains("repository:") { "--set=global.none=" } else { IMAGE };
    let arguments = ["template", NAME, chart, "--namespace", NAME, "--values=-", image];
    let printed = helm(&std::env::temp_dir(), &arguments, values);
    if printed.success { Ok(printed.out) } else { Err(printed.err) }
}

pub fn render(values: &str) -> Vec<Value> {
    objects(&try_render(CHART, values).unwrap_or_else(|error| panic!("{values}: {error}")))
}

/// Returns the objects of an overlay.
pub fn overlay(name: &str) -> Vec<Value> {
    let path = format!("{ROOT}/deploy/kustomize/{name}");
    objects(&succeed(Command::new(tool("kubectl")).args(["kustomize", &path]), ""))
}

pub fn objects(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// Returns an object's kind, namespace and name.
pub fn id(object: &Value) -> String {
    let of = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", of("/kind"), of("/metadata/namespace"), of("/metadata/name"))
}

/// Returns the objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// Returns the objects by ID, without the fields that only Helm sets, and without the Namespace, which Helm does not
/// create.
pub fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let ours = objects.into_iter().filter(|object| object["kind"] != "Namespace");
    ours.map(|mut object| {
        for (field, keys) in [
            ("labels", &["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"][..]),
            ("annotations", &["helm.sh/resource-policy"][..]),
        ] {
            let meta = object["metadata"].as_object_mut().unwrap();
            if let Some(map) = meta.get_mut(field).and_then(Value::as_object_mut) {
                map.retain(|key, _| !keys.contains(&key.as_str()));
                if map.is_empty() {
                    meta.remove(field);
                }
            }
        }
        whole_numbers(&mut object);
        (id(&object), object)
    })
    .collect()
}

/// Writes 0.0 as 0, as kustomize does.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) if number.as_f64() == Some(0.0) => *value = Value::from(0),
        _ => {}
    }
}

/// Returns the rules of all `Roles` and `ClusterRoles`, each with the ID of its role.
pub fn rules(objects: &[Value]) -> Vec<(String, Value)> {
    let roles = objects.iter().filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole");
    roles.flat_map(|role| role["rules"].as_array().unwrap().iter().map(|rule| (id(role), rule.clone()))).collect()
}

/// Whether a list in a rule contains a word.
pub fn contains(rule: &Value, list: &str, word: &str) -> bool {
    rule[list].as_array().is_some_and(|words| words.iter().any(|found| found == word))
}

fn container(objects: &[Value]) -> &Value {
    &of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
}

/// Returns the operator's arguments.
pub fn arguments(objects: &[Value]) -> Vec<String> {
    serde_json::from_value(container(objects)["args"].clone()).unwrap()
}

/// Returns the operator's environment variables.
pub fn environment(objects: &[Value]) -> BTreeMap<String, String> {
    let variables = container(objects)["env"].as_array().unwrap().iter();
    let text = |variable: &Value, field: &str| variable[field].as_str().unwrap_or_default().to_owned();
    variables.map(|variable| (text(variable, "name"), text(variable, "value"))).collect()
}
