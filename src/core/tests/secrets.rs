//! The target Secret: its owner, its contents and its updates.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::*;
use crate::api::{DeletionPolicy, Format};

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
        inputs: "v1:x".to_owned(),
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
        LiveSecret::new(secret, &me()).stored().unwrap().referer
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
    assert_eq!(fingerprint(&plan, "uid-1"), "v1:f947a56cb55e4d4ea56b30c08ef8c02feb8869b057988f0d64d43daec741a73a");
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

#[test]
fn a_stored_token_is_used_only_if_it_is_unmodified() {
    let plan = plan(&json!({}));
    let stored = |change: &dyn Fn(&mut Secret)| {
        let mut secret = secret(&plan);
        change(&mut secret);
        LiveSecret::new(secret, &me()).stored()
    };
    let whole = stored(&|_| {}).unwrap();
    assert_eq!(whole.token.expose(), "secret-token");
    assert_eq!((whole.issue_time, whole.expiration_time), (at(1_000_000), at(1_007_200)));
    assert_eq!((whole.inputs.as_str(), whole.portal_url.as_deref()), ("v1:x", Some("https://gis.example.com/portal")));
    let data = |key: &'static str, value: &'static str| {
        move |s: &mut Secret| {
            s.data.as_mut().unwrap().insert(key.to_owned(), k8s_openapi::ByteString(value.into()));
        }
    };
    let note = |key: &'static str, value: &'static str| {
        move |s: &mut Secret| {
            let annotations = s.metadata.annotations.as_mut().unwrap();
            annotations.insert(format!("credentials.arcgis.dev/{key}"), value.to_owned());
        }
    };
    assert!(stored(&data("access_token", "another-token")).is_none());
    assert!(stored(&data("access_token", "no token")).is_none());
    assert!(stored(&note("expires-at", "1970-01-12T15:46:41Z")).is_none());
    assert!(stored(&note("issued-at", "1970-01-12T13:46:41Z")).is_none());
    assert!(stored(&note("issued-at", "yesterday")).is_none());
    assert!(stored(&|s| s.data = None).is_none());
    assert!(stored(&|s| s.metadata.annotations = None).is_none());

    let lasting = |seconds: i64| {
        let token = IssuedToken { expiration_time: at(1_000_000 + seconds), ..published() };
        let manifest = render(&plan, &me(), &token).manifest(&plan, &me());
        LiveSecret::new(serde_json::from_value(manifest.expose().clone()).unwrap(), &me()).stored().is_some()
    };
    assert_eq!([-1, 0, 1, 315_360_000, 315_360_001].map(lasting), [false, false, true, true, false]);
}

#[test]
fn a_secret_is_owned_by_controller_reference_or_by_label_and_annotation_and_must_be_usable() {
    let owner = |change: &dyn Fn(&mut Secret)| {
        let mut secret = secret(&plan(&json!({"deletionPolicy": "Retain"})));
        change(&mut secret);
        LiveSecret::new(secret, &me()).owner.clone()
    };
    let reference = |uid: &str, controller: bool| {
        Some(vec![OwnerReference { uid: uid.to_owned(), controller: Some(controller), ..OwnerReference::default() }])
    };
    let unmark = |s: &mut Secret| s.metadata.labels = None;
    let name = |s: &mut Secret, name: &str| {
        let annotations = s.metadata.annotations.as_mut().unwrap();
        annotations.insert("credentials.arcgis.dev/credential".to_owned(), name.to_owned());
    };
    assert_eq!(owner(&|_| {}), Owner::Ours);
    assert_eq!(owner(&|s| s.metadata.owner_references = reference("uid", true)), Owner::Ours);
    assert_eq!(owner(&|s| (unmark(s), s.metadata.owner_references = reference("uid", true)).1), Owner::Ours);
    assert_eq!(owner(&|s| s.metadata.owner_references = reference("else", false)), Owner::Ours);
    assert_eq!(owner(&|s| s.metadata.owner_references = reference("else", true)), Owner::Other(Some("r".to_owned())));
    assert_eq!(owner(&unmark), Owner::Other(None));
    assert_eq!(owner(&|s| (unmark(s), s.metadata.owner_references = reference("uid", false)).1), Owner::Other(None));
    assert_eq!(owner(&|s| name(s, "s")), Owner::Other(Some("s".to_owned())));
    assert_eq!(owner(&|s| s.metadata.annotations = None), Owner::Other(None));
    let by_another = |s: &mut Secret| {
        let labels = s.metadata.labels.as_mut().unwrap();
        labels.insert("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned());
    };
    assert_eq!(owner(&by_another), Owner::Other(None));
    let other_controller = |s: &mut Secret| (unmark(s), s.metadata.owner_references = reference("else", true)).1;
    assert_eq!(owner(&other_controller), Owner::Controller);
    assert_eq!(owner(&|s| s.immutable = Some(true)), Owner::Immutable);
    assert_eq!(owner(&|s| s.immutable = Some(false)), Owner::Ours);
    assert_eq!(owner(&|s| s.type_ = Some("kubernetes.io/tls".to_owned())), Owner::OtherType);
    assert_eq!(owner(&|s| s.type_ = None), Owner::Ours);
}

#[test]
fn a_patch_changes_managed_fields_and_removes_those_no_longer_specified() {
    let rich = json!({"formats": ["Headers"], "data": {"conf": "$(portal_url)"}, "labels": {"team": "maps"}, "annotations": {"note": "a"}});
    let (before, after) = (plan(&rich), plan(&json!({"labels": {"team": "gis"}})));
    let mut live = secret(&before);
    live.data.as_mut().unwrap().insert("theirs".to_owned(), k8s_openapi::ByteString(b"x".to_vec()));
    let live = LiveSecret::new(live, &me());
    assert!(live.patch(&render(&before, &me(), &published())).is_none(), "no difference");
    let patch = live.patch(&render(&after, &me(), &published())).unwrap();
    let expected = json!({
        "metadata": {
            "uid": "s", "resourceVersion": "5",
            "labels": {"team": "gis"},
            "annotations": {"note": null, "credentials.arcgis.dev/extras": "{\"labels\":[\"team\"]}"},
        },
        "data": {"conf": null, Format::Headers.key(): null},
    });
    assert_eq!(*patch.expose(), expected);
    let bare = live.patch(&render(&plan(&json!({})), &me(), &published())).unwrap();
    assert_eq!(bare.expose()["metadata"]["labels"], json!({"team": null}));
    assert_eq!(bare.expose()["metadata"]["annotations"], json!({"note": null, "credentials.arcgis.dev/extras": null}));
}

#[test]
fn each_single_difference_is_repaired() {
    let plan = plan(&json!({"labels": {"team": "maps"}}));
    let patched = |change: fn(&mut Secret)| {
        let mut secret = secret(&plan);
        change(&mut secret);
        LiveSecret::new(secret, &me()).patch(&render(&plan, &me(), &published()))
    };
    let data = patched(|s| drop(s.data.as_mut().unwrap().remove("portal_url"))).unwrap();
    assert_eq!(data.expose()["data"].as_object().unwrap().keys().collect::<Vec<_>>(), ["portal_url"]);
    let labels = patched(|s| drop(s.metadata.labels.as_mut().unwrap().remove("team"))).unwrap();
    assert_eq!(
        (&labels.expose()["metadata"]["labels"], &labels.expose()["data"]),
        (&json!({"team": "maps"}), &json!({}))
    );
    let inputs = "credentials.arcgis.dev/inputs";
    let annotations =
        patched(|s| drop(s.metadata.annotations.as_mut().unwrap().remove("credentials.arcgis.dev/inputs")));
    assert_eq!(annotations.unwrap().expose()["metadata"]["annotations"], json!({inputs: "v1:x"}));
}

#[test]
fn the_owner_reference_follows_the_deletion_policy_and_other_references_stay() {
    use DeletionPolicy::{Delete, Retain};
    let other = OwnerReference { uid: "else".to_owned(), name: "else".to_owned(), ..OwnerReference::default() };
    let live = |policy: &str, others: Vec<OwnerReference>| {
        let mut secret = secret(&plan(&json!({"deletionPolicy": policy})));
        secret.metadata.owner_references.get_or_insert_default().extend(others);
        LiveSecret::new(secret, &me())
    };
    assert!(live("Delete", vec![]).ownership(Delete, &me()).is_none());
    assert!(live("Retain", vec![]).ownership(Retain, &me()).is_none());
    let taken = live("Retain", vec![other.clone()]).ownership(Delete, &me()).unwrap();
    assert_eq!(
        (&taken.expose()["metadata"]["uid"], &taken.expose()["metadata"]["resourceVersion"]),
        (&json!("s"), &json!("5"))
    );
    let owners: Vec<OwnerReference> =
        serde_json::from_value(taken.expose()["metadata"]["ownerReferences"].clone()).unwrap();
    assert_eq!((&owners[0], owners[1].uid.as_str(), owners[1].controller), (&other, "uid", Some(true)));
    assert_eq!((owners[1].kind.as_str(), owners[1].name.as_str(), owners.len()), ("ArcGisAppCredential", "r", 2));
    assert_eq!(owners[1].api_version.split('/').next(), Some("credentials.arcgis.dev"));
    let given_up = live("Delete", vec![other.clone()]).ownership(Retain, &me()).unwrap();
    assert_eq!(given_up.expose()["metadata"]["ownerReferences"], json!([other]));
}
