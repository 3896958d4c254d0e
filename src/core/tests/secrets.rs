//! The target Secret: its owner, its contents and its updates.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::*;

mod creations;
mod size;
use crate::api::{DeletionPolicy, Format};

mod live;

fn plan(target: &serde_json::Value) -> Plan {
    let mut whole = json!({"credentialsRef": {"name": "c"}, "target": {"name": "t"}, "portal": {"url": "https://gis.example.com/portal"}});
    json_patch::merge(&mut whole["target"], target);
    Plan::new(&serde_json::from_value(whole).unwrap()).unwrap()
}

fn published() -> IssuedToken {
    IssuedToken {
        token: token("secret-token"),
        issue_time: at(1_000_000),
        expiration_time: at(1_007_200),
        inputs: Some("v1:x".into()),
        portal_url: None,
        referer: None,
    }
}

fn secret(plan: &Plan) -> Secret {
    let manifest = render(plan, &me(), &published()).manifest(plan, &me());
    let mut secret: Secret = serde_json::from_value(manifest.expose().clone()).unwrap();
    (secret.metadata.uid, secret.metadata.resource_version) = (Some("s".to_owned()), Some("5".to_owned()));
    secret
}

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

#[test]
fn a_new_target_has_all_specified_keys_labels_and_annotations() {
    let plan = plan(&json!({
        "formats": ["Headers", "DotEnv", "Json", "RestJs"],
        "data": {"conf": "t=$(access_token) e=$(expires_at) p=$(portal_url)"},
        "labels": {"team": "maps"}, "annotations": {"note": "a"},
    }));
    let secret = secret(&plan);
    assert_eq!(text(&secret, "access_token"), "secret-token");
    assert_eq!(text(&secret, "expires_at"), "1970-01-12T15:46:40Z");
    assert_eq!(text(&secret, "portal_url"), "https://gis.example.com/portal");
    assert_eq!(text(&secret, "conf"), "t=secret-token e=1970-01-12T15:46:40Z p=https://gis.example.com/portal");
    assert_eq!(text(&secret, Format::Headers.key()), "X-Esri-Authorization: Bearer secret-token\n");
    let env = "ARCGIS_ACCESS_TOKEN=secret-token\nARCGIS_TOKEN_EXPIRES_AT=1970-01-12T15:46:40Z\nARCGIS_PORTAL_URL=https://gis.example.com/portal\n";
    assert_eq!(text(&secret, Format::DotEnv.key()), env);
    let json = |key: &str| serde_json::from_str::<serde_json::Value>(&text(&secret, key)).unwrap();
    let expected = json!({"access_token": "secret-token", "expires_at": "1970-01-12T15:46:40Z", "portal_url": "https://gis.example.com/portal"});
    assert_eq!(json(Format::Json.key()), expected);
    let expected = json!({"type": "ApiKeyManager", "token": "secret-token", "portal": "https://gis.example.com/portal/sharing/rest"});
    assert_eq!(json(Format::RestJs.key()), expected);
    let labels = secret.metadata.labels.unwrap();
    assert_eq!((labels.len(), labels["team"].as_str()), (2, "maps"));
    assert_eq!(labels["app.kubernetes.io/managed-by"], "arcgis-credential-operator");
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!((annotations.len(), annotations["note"].as_str()), (7, "a"));
    for (key, value) in [
        ("credential", "r"),
        ("issued-at", "1970-01-12T13:46:40Z"),
        ("expires-at", "1970-01-12T15:46:40Z"),
        ("inputs", "v1:x"),
    ] {
        assert_eq!(annotations[&format!("credentials.arcgis.dev/{key}")], value);
    }
}

#[test]
fn the_formats_contain_the_referer_except_that_of_rest_js() {
    let plan = plan(&json!({"formats": ["Headers", "DotEnv", "Json", "RestJs"]}));
    let written = |referer: Option<&str>| {
        let token = IssuedToken { referer: referer.map(str::to_owned), ..published() };
        let manifest = render(&plan, &me(), &token).manifest(&plan, &me());
        serde_json::from_value::<Secret>(manifest.expose().clone()).unwrap()
    };
    let (with, without) = (written(Some("https://maps.example.com/a?b=1")), written(None));
    let headers = "X-Esri-Authorization: Bearer secret-token\nReferer: https://maps.example.com/a?b=1\n";
    assert_eq!(text(&with, Format::Headers.key()), headers);
    let env = text(&without, Format::DotEnv.key()) + "ARCGIS_REFERER=https://maps.example.com/a?b=1\n";
    assert_eq!(text(&with, Format::DotEnv.key()), env);
    let json = |secret: &Secret| serde_json::from_str::<serde_json::Value>(&text(secret, Format::Json.key())).unwrap();
    assert_eq!(json(&with)["referer"], "https://maps.example.com/a?b=1");
    assert!(json(&without).get("referer").is_none());
    assert_eq!(text(&with, Format::RestJs.key()), text(&without, Format::RestJs.key()));
}

#[test]
fn the_referer_of_a_published_token_is_read_from_any_format_that_contains_it() {
    let read = |format: &str, change: &dyn Fn(&mut Secret)| {
        let plan = plan(&json!({"formats": [format]}));
        let token = IssuedToken { referer: Some("https://a.example".to_owned()), ..published() };
        let manifest = render(&plan, &me(), &token).manifest(&plan, &me());
        let mut secret = serde_json::from_value(manifest.expose().clone()).unwrap();
        change(&mut secret);
        LiveSecret::new(secret, &me()).stored(None).unwrap().referer
    };
    for format in ["Headers", "DotEnv", "Json"] {
        assert_eq!(read(format, &|_| {}).as_deref(), Some("https://a.example"), "{format}");
    }
    assert_eq!(read("RestJs", &|_| {}), None);
    let changed = |s: &mut Secret| {
        let data = s.data.as_mut().unwrap();
        data.insert("headers".to_owned(), k8s_openapi::ByteString(b"Referer: not a URL\n".to_vec()));
    };
    assert_eq!(read("Headers", &changed), None, "what another writer made of it is not published again");
}

#[test]
fn fingerprints_and_digests_are_stable_across_releases() {
    // These values are in released targets: another value would renew every token of a cluster on an upgrade.
    let plan = plan(&json!({}));
    assert_eq!(
        fingerprint(&plan, "uid-1").to_string(),
        "v1:f947a56cb55e4d4ea56b30c08ef8c02feb8869b057988f0d64d43daec741a73a"
    );
    let annotations = secret(&plan).metadata.annotations.unwrap();
    assert_eq!(
        annotations["credentials.arcgis.dev/token-digest"],
        "79cc260a2129c5c73cc9de5a9ac2bbca3a53c48f5bc86cc5d538e43c07b23560"
    );
    assert!(!annotations.contains_key("credentials.arcgis.dev/extras"), "no extras are recorded");
}

#[test]
fn requested_at_is_recorded_as_a_short_hash() {
    let mut s = situation(at(1_000_000));
    assert_eq!(s.made_with().requested, "-");
    s.requested_at = Some("now".to_owned());
    assert_eq!(s.made_with().requested, "7db03879e219a42f");
}

#[test]
fn secret_values_are_zeroed_when_no_longer_needed() {
    let mut data = BTreeMap::from([("a".to_owned(), k8s_openapi::ByteString(b"secret".to_vec()))]);
    zero(&mut data);
    assert!(data["a"].0.is_empty());
}

#[test]
fn a_fingerprint_depends_on_each_input_of_a_request_and_on_nothing_else() {
    let base = plan(&json!({}));
    let first = fingerprint(&base, "u");
    let changed = |change: fn(&mut Plan)| {
        let mut plan = base.clone();
        change(&mut plan);
        fingerprint(&plan, "u")
    };
    assert_ne!(fingerprint(&base, "v"), first);
    assert_ne!(changed(|p| p.portal = PortalUrl::parse("https://gis.example.com/other").unwrap()), first);
    assert_ne!(changed(|p| p.credentials.client_id_key = "k".to_owned()), first);
    assert_ne!(changed(|p| p.credentials.client_secret_key = "k".to_owned()), first);
    assert_ne!(changed(|p| p.lifetime = Some(3600)), first);
    assert_ne!(changed(|p| p.lifetime = Some(3600)), changed(|p| p.lifetime = Some(7200)));
    assert_ne!(changed(|p| p.client_certificate = Some("a".to_owned())), first);
    assert_ne!(changed(|p| p.client_certificate = Some("a".to_owned())), changed(|p| p.referer = Some("a".to_owned())));
    assert_ne!(changed(|p| p.referer = Some("https://a".to_owned())), first);
    assert_ne!(
        changed(|p| p.referer = Some("https://a".to_owned())),
        changed(|p| p.referer = Some("https://b".to_owned()))
    );
    assert_eq!(changed(|p| (p.renew_before, p.suspend) = (Some(600), true)), first);
}

#[test]
fn the_public_url_is_published_and_does_not_enter_the_inputs() {
    let plan = |public: &str| {
        let mut spec = json!({
            "portal": {"url": "https://internal:7443/arcgis"},
            "credentialsRef": {"name": "c"},
            "target": {"name": "t", "formats": ["DotEnv", "Json", "RestJs"], "data": {"conf": "$(portal_url)"}},
        });
        if !public.is_empty() {
            spec["portal"]["publicURL"] = json!(public);
        }
        Plan::new(&serde_json::from_value(spec).unwrap()).unwrap()
    };
    let secret = secret(&plan("https://Maps.example.com/portal/home"));
    for key in ["portal_url", "conf"] {
        assert_eq!(text(&secret, key), "https://maps.example.com/portal", "{key}");
    }
    for format in [Format::DotEnv, Format::Json, Format::RestJs] {
        let text = text(&secret, format.key());
        assert!(text.contains("https://maps.example.com/portal") && !text.contains("internal"), "{text}");
    }
    let live = LiveSecret::new(secret, &me());
    let moved = live.patch(&render(&plan("https://other.example.com"), &me(), &published())).unwrap();
    let keys: Vec<_> = moved.expose()["data"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["arcgis.env", "conf", "portal_url", "rest-js.json", "token.json"]);
    assert_eq!(fingerprint(&plan(""), "uid"), fingerprint(&plan("https://maps.example.com"), "uid"));
}
