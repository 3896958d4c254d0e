//! What admission rejects, with its messages, and what it accepts, on the real API server.

use crate::support::TestEnv;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// A path in the manifest, the value set there, and a part of the error; `None` if it is accepted.
type Case = (&'static str, Value, Option<&'static str>);

/// Returns `count` keys with texts of `bytes` bytes.
fn texts(count: usize, bytes: usize) -> Value {
    (0..count).map(|n| (format!("key-{n}"), json!("x".repeat(bytes)))).collect::<serde_json::Map<_, _>>().into()
}

fn cases() -> Vec<Case> {
    let own = Some("are the operator's");
    let data = |key: &str, text: &str| json!({key: text});
    let mut cases = vec![
        ("/spec/target/name", json!("creds"), Some("must not be the credentials Secret")),
        ("/spec/target/formats", json!(["Json", "Json"]), Some("duplicate entries")),
        ("/spec/target/formats", json!(["Yaml"]), Some("Unsupported value")),
        ("/spec/target/formats", json!(["Headers", "DotEnv", "Json", "RestJs"]), None),
        ("/spec/target/deletionPolicy", json!("Keep"), Some("Unsupported value")),
        ("/spec/token", json!({"lifetime": "1h", "renewBefore": "60m"}), Some("must be shorter than lifetime")),
        ("/spec/token", json!({"lifetime": "61m", "renewBefore": "1h"}), None),
        ("/spec/target/labels", json!({"credentials.arcgis.dev/x": "y"}), own),
        ("/spec/target/labels", json!({"app.kubernetes.io/managed-by": "me"}), own),
        ("/spec/target/annotations", json!({"credentials.arcgis.dev/inputs": "y"}), own),
        ("/spec/target/labels", json!({"team": "x".repeat(64)}), Some("may not be more than 63")),
        ("/spec/target/labels", json!({"-team": "x"}), Some("write keys as name or example.com/name")),
        ("/spec/target/labels", json!({"a/b/c": "x"}), Some("write keys as name or example.com/name")),
        ("/spec/target/labels", json!({"x".repeat(64): "y"}), Some("write keys as name or example.com/name")),
        ("/spec/target/labels", json!({"example.com/team": "Maps_1.x-y"}), None),
        ("/spec/target/labels", json!({"team": ""}), None),
        ("/spec/target/labels", json!({"team": "a b"}), Some("write label values of at most 63")),
        ("/spec/target/labels", json!({"team": "-a"}), Some("write label values of at most 63")),
        ("/spec/target/annotations", json!({"a b": "x"}), Some("write keys as name or example.com/name")),
        ("/spec/target/annotations", json!({"note": "any text: é"}), None),
        ("/spec/target/annotations", texts(5, 4000), Some("shorten the annotations")),
        ("/spec/target/annotations", texts(4, 4000), None),
        ("/spec/target/data", texts(5, 8000), Some("shorten the texts")),
        ("/spec/target/data", texts(4, 8000), None),
        ("/spec/target/data", texts(65, 1), Some("must have at most 64 items")),
        ("/spec/target/data", data("headers", "x"), None),
        ("/spec/target/data", data("app.cfg", &"x".repeat(8193)), Some("may not be more than 8192")),
        ("/spec/credentialsRef/clientIDKey", json!("a b"), Some("write a key of letters")),
        ("/spec/suspend", json!("yes"), Some("expected boolean")),
        ("/spec/apiToken", json!(1), Some("field not declared in schema")),
        ("/spec/credentialsRef/namespace", json!("other"), Some("field not declared in schema")),
    ];
    cases.extend(references());
    cases.extend(durations());
    cases.extend(urls());
    cases.extend(referers());
    cases.extend(names_and_texts());
    cases
}

fn references() -> Vec<Case> {
    vec![
        (
            "/spec/portal/caBundleRef",
            json!({"kind": "Secret", "name": "target"}),
            Some("must not be the CA bundle's Secret"),
        ),
        (
            "/spec/portal/clientCertificateRef",
            json!({"name": "target"}),
            Some("must not be the Secret with the client certificate"),
        ),
        ("/spec/portal/clientCertificateRef", json!({"name": "client"}), None),
        ("/spec/portal/clientCertificateRef", json!({"name": "Client"}), Some("write a DNS-1123 subdomain")),
        (
            "/spec/portal/clientCertificateRef",
            json!({"name": "a", "namespace": "b"}),
            Some("field not declared in schema"),
        ),
        ("/spec/portal/caBundleRef", json!({"kind": "ConfigMap", "name": "target"}), None),
        ("/spec/portal/caBundleRef", json!({"kind": "Pod", "name": "x"}), Some("Unsupported value")),
    ]
}

fn durations() -> Vec<Case> {
    let duration = Some("write a Go duration between 1m and 336h");
    let mut cases = Vec::new();
    for good in ["1m", "336h", "90m", "1h30m", "1.5h", ".5h", "3600s", "60000ms", "1h0.5m"] {
        cases.push(("/spec/token/lifetime", json!(good), None));
        cases.push(("/spec/token/renewBefore", json!(good), None));
    }
    for bad in ["", "1d", "junk", "-1h", "59s", "336h1s", "5", "1h 30m", "PT2H", "99999h", "1e3h", "h", "1.2.3h"] {
        let error = if bad.is_empty() { Some("should be at least 1 chars long") } else { duration };
        cases.push(("/spec/token/lifetime", json!(bad), error));
        cases.push(("/spec/token/renewBefore", json!(bad), error));
    }
    cases.push(("/spec/token/lifetime", json!("9".repeat(60) + "h"), duration));
    cases
}

fn urls() -> Vec<Case> {
    let mut cases = Vec::new();
    for good in [
        "https://www.arcgis.com",
        "https://GIS.Example.com/portal/",
        "https://host:7443/arcgis/sharing/rest/",
        "https://10.1.2.3/a%20b/~x_y.z-1",
        "https://[2001:db8::1]:7443/portal",
        "https://gis_1.example.com/portal/home/index.html",
    ] {
        cases.push(("/spec/portal/url", json!(good), None));
        cases.push(("/spec/portal/publicURL", json!(good), None));
    }
    let service = json!("https://gis.example.com/server/rest/services/Roads/FeatureServer");
    cases.push(("/spec/portal/url", service.clone(), Some("this is a service; write the portal's URL")));
    cases.push(("/spec/portal/publicURL", service, Some("this is a service; write the portal's URL")));
    for bad in [
        "http://host",
        "https://",
        "https://user@host",
        "https://host?x=1",
        "https://host/#x",
        "https://ho st",
        " https://host",
        "https://host:0",
        "https://host:65536",
        "https://host:0443",
        "https://1.2.3",
        "https://0x7f000001",
        "https://host/%zz",
        "https://host/a;b",
        "https://host\\@evil",
        "ftp://host",
        "host",
        "https://höst",
    ] {
        cases.push(("/spec/portal/url", json!(bad), Some("write https://host")));
        cases.push(("/spec/portal/publicURL", json!(bad), Some("write https://host")));
    }
    cases
}

fn referers() -> Vec<Case> {
    let mut cases = Vec::new();
    for good in [
        "https://maps.example.com",
        "http://localhost:3000/a/~b?c=d,e+f@g%20h",
        "https://[2001:db8::1]:7443/app",
        "https://h/?a=1&b=2",
    ] {
        cases.push(("/spec/token", json!({"referer": good}), None));
    }
    cases.push(("/spec/token", json!({"referer": format!("https://h/{}", "a".repeat(502))}), None));
    let long = format!("https://h/{}", "a".repeat(503));
    cases.push(("/spec/token", json!({"referer": long}), Some("may not be more than 512")));
    cases.push(("/spec/token", json!({"referer": ""}), Some("should be at least 1 chars long")));
    for bad in [
        "maps.example.com",
        "ftp://h",
        "https://",
        "https://u@h",
        "https://h/a b",
        "https://h/a\nX: y",
        "https://h/#x",
        "https://h/\u{e4}",
    ] {
        cases.push(("/spec/token", json!({"referer": bad}), Some("write an http or https URL such as")));
    }
    cases
}

fn names_and_texts() -> Vec<Case> {
    let name = Some("write a DNS-1123 subdomain");
    let key = Some("a key is");
    let text = Some("use only $(access_token)");
    let data = |key: &str, text: &str| json!({key: text});
    let mut cases = Vec::new();
    for bad in ["Upper", "a_b", "-a", "a-", "a..b", "a/b"] {
        cases.push(("/spec/target/name", json!(bad), name));
        cases.push(("/spec/credentialsRef/name", json!(bad), name));
    }
    for bad in ["access_token", "expires_at", "portal_url", "client_id", "client_secret", "a b", "a/b"] {
        cases.push(("/spec/target/data", data(bad, "x"), key));
    }
    for bad in ["$(other)", "$(access_token", "$()", "x$(", "$(access_token)$(client_secret)"] {
        cases.push(("/spec/target/data", data("x", bad), text));
    }
    for good in ["", "$", "$$", "$x", "$$(other)", "a$$$(access_token)b", "${x}", "\n$(expires_at)\n$(portal_url)"] {
        cases.push(("/spec/target/data", data("x", good), None));
    }
    cases
}

fn set(manifest: &mut Value, path: &str, value: Value) {
    let mut field = manifest;
    for part in path.trim_start_matches('/').split('/') {
        field = &mut field[part];
    }
    *field = value;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_invalid_value_is_rejected_with_its_message() {
    let env = TestEnv::new().await;
    let strict = PatchParams { dry_run: true, ..PatchParams::apply("user").validation_strict() };
    let mut wrong = Vec::new();
    for (path, value, expected) in cases() {
        let mut manifest = env.manifest("case", "creds");
        manifest["spec"]["target"]["name"] = json!("target");
        set(&mut manifest, path, value.clone());
        let answer = env.resources().patch("case", &strict, &Patch::Apply(&manifest)).await;
        let message = answer.err().map(|error| error.to_string());
        let as_expected = match (&message, expected) {
            (None, None) => true,
            (Some(message), Some(expected)) => message.contains(expected),
            _ => false,
        };
        if !as_expected {
            wrong.push(format!("{path} = {value}: expected {expected:?}, got {message:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A spec whose referer would be run by a shell that reads `arcgis.env`.
fn shell_referer(env: &TestEnv) -> Value {
    let mut spec = env.manifest("case", "creds")["spec"].take();
    spec["token"] = json!({"referer": "https://h/?a=1&b=2"});
    spec["target"]["formats"] = json!(["DotEnv"]);
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_across_fields_names_the_field_to_change() {
    let env = TestEnv::without_operator(&[]).await;
    let ca = json!({"kind": "Secret", "name": "target"});
    for (path, value, field) in [
        ("/spec/target/name", json!("creds"), "spec.target.name"),
        ("/spec/portal/caBundleRef", ca, "spec.target.name"),
        ("/spec/portal/clientCertificateRef", json!({"name": "target"}), "spec.target.name"),
        ("/spec/token", json!({"lifetime": "1h", "renewBefore": "2h"}), "spec.token.renewBefore"),
        ("/spec", shell_referer(&env), "spec.token.referer"),
        (
            "/spec/target",
            json!({"name": "target", "formats": ["Json"], "data": {"token.json": "x"}}),
            "spec.target.data",
        ),
    ] {
        let mut manifest = env.manifest("case", "creds");
        manifest["spec"]["target"]["name"] = json!("target");
        set(&mut manifest, path, value);
        let answer = env.resources().patch("case", &PatchParams::apply("user"), &Patch::Apply(&manifest)).await;
        let Err(kube::Error::Api(status)) = answer else { panic!("{path} is accepted") };
        let causes = status.details.unwrap().causes;
        assert!(causes.iter().any(|cause| cause.field == field), "{path}: {causes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_cannot_be_that_of_a_chosen_format_and_the_target_name_is_immutable() {
    let env = TestEnv::new().await;
    for (format, key) in
        [("Headers", "headers"), ("DotEnv", "arcgis.env"), ("Json", "token.json"), ("RestJs", "rest-js.json")]
    {
        let mut manifest = env.manifest("case", "creds");
        manifest["spec"]["target"]["formats"] = json!([format]);
        manifest["spec"]["target"]["data"] = json!({key: "x"});
        let apply = PatchParams::apply("user");
        let message = env.resources().patch("case", &apply, &Patch::Apply(&manifest)).await.unwrap_err().to_string();
        assert!(message.contains("is the key of a chosen format"), "{message}");
    }
    env.apply(&env.manifest("fixed", "creds")).await;
    let rename = json!({"spec": {"target": {"name": "other"}}});
    let message = env.resources().patch("fixed", &PatchParams::default(), &Patch::Merge(&rename)).await.unwrap_err();
    assert!(message.to_string().contains("spec.target.name is immutable"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted() {
    let env = TestEnv::new().await;
    let mut count = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        // The one that names its namespace belongs into that of the resource.
        let example = std::fs::read_to_string(&path).unwrap();
        let example = example.replace("namespace: maps", &format!("namespace: {}", env.namespace));
        let copy = env.plane.dir().join(format!("{}-example.yaml", env.namespace));
        std::fs::write(&copy, example).unwrap();
        let status = tokio::process::Command::new(env.plane.tool("kubectl"))
            .args(["apply", "--validate=strict", "-n", &env.namespace, "-f"])
            .arg(&copy)
            .env("KUBECONFIG", env.plane.kubeconfig())
            .status()
            .await
            .unwrap();
        assert!(status.success(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_resource_has_observed_generation_minus_1_before_its_first_reconciliation() {
    let mut env = TestEnv::new().await;
    env.kill().await;
    env.apply(&env.manifest("fresh", "creds")).await;
    let status = env.resources().get("fresh").await.unwrap().status.unwrap();
    assert_eq!(status.observed_generation, -1);
    assert!(status.conditions.is_empty());
}
