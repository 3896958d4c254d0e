//! The Secret in the cluster: its owner, its token, and what is changed.

use super::*;

#[test]
fn a_stored_token_is_used_only_if_it_is_unmodified() {
    let plan = plan(&json!({}));
    let stored = |change: &dyn Fn(&mut Secret)| {
        let mut secret = secret(&plan);
        change(&mut secret);
        LiveSecret::new(secret, &me()).stored(None)
    };
    let whole = stored(&|_| {}).unwrap();
    assert_eq!(whole.token.expose(), "secret-token");
    assert_eq!((whole.issue_time, whole.expiration_time), (at(1_000_000), at(1_007_200)));
    assert_eq!(
        (whole.inputs.as_ref().map(ToString::to_string).as_deref(), whole.portal_url.as_deref()),
        (Some("v1:x"), Some("https://gis.example.com/portal"))
    );
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
        LiveSecret::new(serde_json::from_value(manifest.expose().clone()).unwrap(), &me()).stored(None).is_some()
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
