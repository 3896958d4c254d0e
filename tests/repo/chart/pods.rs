//! The pods that the chart creates, and what selects them.

use serde_json::{Value, json};

use super::render::{EXTRAS, arguments, environment, of_kind, render};

/// The volumes that the security context constraint `restricted-v2` allows.
const RESTRICTED_VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

/// Returns the specs of all pods: the operator's, and that of `helm test`.
fn pods(objects: &[Value]) -> Vec<Value> {
    let operator = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"].clone();
    [vec![operator], of_kind(objects, "Pod").into_iter().map(|pod| pod["spec"].clone()).collect()].concat()
}

fn container(pod: &Value) -> &Value {
    &pod["containers"][0]
}

#[test]
fn the_pods_meet_the_constraint_restricted_v2_of_openshift() {
    for values in ["{}", "{probe: {credentialsSecret: app}, trust: {configMap: {name: roots}}}"] {
        for pod in pods(&render(values)) {
            // The constraint chooses them from the range of the namespace, and rejects others.
            for context in [&pod["securityContext"], &container(&pod)["securityContext"]] {
                for field in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions"] {
                    assert!(context[field].is_null(), "{values}: {field}");
                }
            }
            assert_eq!(
                pod["securityContext"],
                json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
            );
            assert_eq!(container(&pod)["securityContext"]["allowPrivilegeEscalation"], false);
            assert_eq!(container(&pod)["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[field].is_null(), "{field}");
            }
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                let mut kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
                assert!(kinds.all(|kind| RESTRICTED_VOLUMES.contains(&kind.as_str())), "{volume}");
            }
        }
    }
}

#[test]
fn an_overridden_security_context_keeps_the_other_fields() {
    let contexts = |values: &str| {
        let pod = pods(&render(values)).remove(0);
        (pod["securityContext"].clone(), container(&pod)["securityContext"].clone())
    };
    let (_, restricted) = contexts("{}");
    let (pod, container) = contexts("podSecurityContext: {fsGroup: 2000}");
    let expected = json!({"fsGroup": 2000, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!((pod, container), (expected, restricted));
    let (pod, _) = contexts("podSecurityContext: {runAsUser: 1000680000}");
    assert_eq!((&pod["runAsUser"], &pod["runAsGroup"]), (&json!(1_000_680_000), &Value::Null));
    let (_, container) = contexts("securityContext: {runAsUser: 7, capabilities: {add: [NET_BIND_SERVICE]}}");
    assert_eq!(container["runAsUser"], 7);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], json!({"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}));
}

#[test]
fn additions_reach_the_pods() {
    let objects = render(EXTRAS);
    assert_eq!(arguments(&objects).last().unwrap(), "--allowed-portal=https://gis.example.com");
    let deployment = of_kind(&objects, "Deployment")[0];
    assert_eq!(deployment["spec"]["revisionHistoryLimit"], 2);
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}})
    );
    assert_eq!(deployment["metadata"]["annotations"], json!({"a": "b"}));
    let extra = ["ConfigMap", "Secret"].map(|kind| of_kind(&objects, kind)[0]["metadata"]["name"].clone());
    assert_eq!(extra, ["arcgis-credential-operator-map", "text"]);
    let all = pods(&objects);
    assert_eq!(all.len(), 2);
    for pod in &all {
        let names = |list: &Value| -> Vec<String> {
            let items = list.as_array().unwrap().iter();
            items.map(|item| item["name"].as_str().unwrap().to_owned()).filter(|name| name != "app").collect()
        };
        let env = names(&container(pod)["env"]);
        assert_eq!(env[env.len() - 3..], ["A", "C", "F"]);
        assert_eq!(names(&pod["volumes"]), ["roots", "tmp", "vault", "files"]);
        assert_eq!(names(&container(pod)["volumeMounts"]), ["roots", "tmp", "vault", "files"]);
        assert_eq!(pod["hostAliases"], json!([{"ip": "192.0.2.1", "hostnames": ["gis.example.com"]}]));
        assert_eq!(pod["dnsConfig"]["nameservers"], json!(["192.0.2.53"]));
    }
}

#[test]
fn additions_stand_beside_the_ca_and_the_proxy() {
    let values =
        "{trust: {secret: {name: roots}}, proxy: {url: 'http://proxy.example.com'}, extraEnv: [{name: A, value: b}],
                   extraVolumes: [{name: tmp, emptyDir: {}}], extraVolumeMounts: [{name: tmp, mountPath: /tmp}]}";
    let pod = pods(&render(values)).remove(0);
    let names = |list: &Value| list.as_array().unwrap().iter().map(|item| item["name"].clone()).collect::<Vec<_>>();
    let own = ["ARCGIS_OPERATOR_ALLOWED_PORTAL", "ARCGIS_OPERATOR_CA_FILE"];
    assert_eq!(names(&container(&pod)["env"]), [own[0], own[1], "HTTPS_PROXY", "A"]);
    assert_eq!(names(&pod["volumes"]), ["trust", "tmp"]);
    assert_eq!(names(&container(&pod)["volumeMounts"]), ["trust", "tmp"]);
}

#[test]
fn trusted_certificates_are_projected_into_the_pods_from_each_source() {
    let items = json!([{"key": "roots.pem", "path": "ca.crt"}]);
    for (values, source) in [
        ("configMap: {name: a, key: roots.pem}", json!({"configMap": {"name": "a", "items": items}})),
        ("secret: {name: a, key: roots.pem}", json!({"secret": {"name": "a", "items": items}})),
        (
            "clusterTrustBundle: {name: 'example.com:a'}",
            json!({"clusterTrustBundle": {"name": "example.com:a", "path": "ca.crt"}}),
        ),
        (
            "clusterTrustBundle: {signerName: example.com/a, labelSelector: {matchLabels: {b: c}}}",
            json!({"clusterTrustBundle": {"signerName": "example.com/a", "labelSelector": {"matchLabels": {"b": "c"}}, "path": "ca.crt"}}),
        ),
    ] {
        let objects = render(&format!("{{probe: {{credentialsSecret: app}}, trust: {{{values}}}}}"));
        let file = environment(&objects)["ARCGIS_OPERATOR_CA_FILE"].clone();
        for pod in pods(&objects) {
            let volumes = pod["volumes"].as_array().unwrap();
            let trust = volumes.iter().find(|volume| volume["name"] == "trust").unwrap();
            assert_eq!(trust["projected"]["sources"], json!([source]), "{values}");
            let mounts = container(&pod)["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == "trust").unwrap();
            assert_eq!(file, format!("{}/ca.crt", mount["mountPath"].as_str().unwrap()));
        }
    }
    assert!(!environment(&render("{}")).contains_key("ARCGIS_OPERATOR_CA_FILE"));
}

/// Whether a selector of labels matches.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value)
}

#[test]
fn helm_test_runs_the_probe_with_the_egress_rules_of_the_operator() {
    assert!(of_kind(&render("{}"), "Pod").is_empty(), "a test that cannot pass without credentials");
    let objects = render(
        "{replicaCount: 2, trust: {configMap: {name: roots}}, service: {enabled: true}, probe: {credentialsSecret: app}}",
    );
    let pod = of_kind(&objects, "Pod")[0];
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    let expected = json!([
        "probe",
        "--portal=https://www.arcgis.com",
        "--client-id-file=/etc/arcgis-credential-operator/app/client_id",
        "--client-secret-file=/etc/arcgis-credential-operator/app/client_secret",
        "--ca-file=/etc/arcgis-credential-operator/trust/ca.crt",
    ]);
    assert_eq!(container(&pod["spec"])["args"], expected);

    let labels = &pod["metadata"]["labels"];
    let [operator, probe] = of_kind(&objects, "NetworkPolicy")[..] else { panic!("not two policies") };
    assert_eq!(operator["spec"]["egress"], probe["spec"]["egress"]);
    assert!(probe["spec"]["ingress"].is_null());
    assert!(selects(&probe["spec"]["podSelector"]["matchLabels"], labels));
    assert!(!selects(&operator["spec"]["podSelector"]["matchLabels"], labels));
    for kind in ["Deployment", "PodDisruptionBudget"] {
        assert!(!selects(&of_kind(&objects, kind)[0]["spec"]["selector"]["matchLabels"], labels), "{kind}");
    }
    assert!(!selects(&of_kind(&objects, "Service")[0]["spec"]["selector"], labels));
}

#[test]
fn a_service_monitor_comes_with_a_service_that_it_selects() {
    assert!(of_kind(&render("{}"), "Service").is_empty());
    let values = "serviceMonitor: {enabled: true, scrapeTimeout: 5s, scheme: https, relabelings: [{regex: a}]}";
    let objects = render(values);
    let (monitor, service) = (of_kind(&objects, "ServiceMonitor")[0], of_kind(&objects, "Service")[0]);
    assert!(selects(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]));
    let template = &of_kind(&objects, "Deployment")[0]["spec"]["template"];
    assert!(selects(&service["spec"]["selector"], &template["metadata"]["labels"]));
    assert_eq!(service["spec"]["ports"], json!([{"name": "admin", "port": 8080, "targetPort": "admin"}]));
    let expected = json!({"port": "admin", "scheme": "https", "interval": "30s", "scrapeTimeout": "5s",
                          "honorLabels": true, "relabelings": [{"regex": "a"}]});
    assert_eq!(monitor["spec"]["endpoints"], json!([expected]));
    let pods = render(&values.replace("serviceMonitor", "podMonitor"));
    assert_eq!(of_kind(&pods, "PodMonitor")[0]["spec"]["podMetricsEndpoints"], json!([expected]));
}
