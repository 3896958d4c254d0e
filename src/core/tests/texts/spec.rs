//! A specification becomes a plan.

use super::*;

fn plan_with(change: &serde_json::Value) -> Result<Plan, SpecError> {
    let mut spec = json!({"credentialsRef": {"name": "c"}, "target": {"name": "t"}, "portal": {}});
    json_patch::merge(&mut spec, change);
    Plan::new(&serde_json::from_value(spec).unwrap())
}

#[test]
fn an_invalid_spec_reports_the_name_of_its_field() {
    let field = |change: &serde_json::Value| plan_with(change).err().map(|problem| problem.field);
    let ca = |kind: &str, name: &str| json!({"portal": {"caBundleRef": {"kind": kind, "name": name, "key": "k"}}});
    for (change, expected) in [
        (json!({}), None),
        (json!({"token": {"lifetime": "1h", "renewBefore": "59m"}}), None),
        (json!({"token": {"lifetime": "1h", "renewBefore": "1h"}}), Some("spec.token.renewBefore")),
        (json!({"token": {"lifetime": "1d"}}), Some("spec.token.lifetime")),
        (json!({"token": {"renewBefore": "x"}}), Some("spec.token.renewBefore")),
        (json!({"token": {"referer": "https://maps.example.com"}}), None),
        (json!({"token": {"referer": "maps.example.com"}}), Some("spec.token.referer")),
        (json!({"target": {"name": "c"}}), Some("spec.target.name")),
        (ca("Secret", "t"), Some("spec.target.name")),
        (ca("ConfigMap", "t"), None),
        (ca("Secret", "ca"), None),
        (ca("Secret", "../ca"), Some("spec.portal.caBundleRef.name")),
        (json!({"portal": {"clientCertificateRef": {"name": "client"}}}), None),
        (json!({"portal": {"clientCertificateRef": {"name": "t"}}}), Some("spec.target.name")),
        (json!({"portal": {"clientCertificateRef": {"name": "a/b"}}}), Some("spec.portal.clientCertificateRef.name")),
        (json!({"target": {"name": "T"}}), Some("spec.target.name")),
        (json!({"credentialsRef": {"name": "a/b"}}), Some("spec.credentialsRef.name")),
        (json!({"portal": {"url": "http://host"}}), Some("spec.portal.url")),
        (json!({"portal": {"publicURL": "https://maps.example.com/portal"}}), None),
        (json!({"portal": {"publicURL": "https://h/arcgis/rest/services"}}), Some("spec.portal.publicURL")),
        (json!({"target": {"labels": {"credentials.arcgis.dev/x": "y"}}}), Some("spec.target.labels")),
        (json!({"target": {"labels": {"app.kubernetes.io/managed-by": "y"}}}), Some("spec.target.labels")),
        (json!({"target": {"annotations": {"credentials.arcgis.dev/x": "y"}}}), Some("spec.target.annotations")),
        (json!({"target": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}), None),
        (json!({"target": {"data": {"a-b._C1": "x"}}}), None),
        (json!({"target": {"data": {"": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"a b": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"access_token": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"client_secret": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"a": "$(x)"}}}), Some("spec.target.data")),
        (
            json!({"target": {"formats": ["Json"], "data": {crate::api::Format::Json.key(): "x"}}}),
            Some("spec.target.data"),
        ),
        (json!({"target": {"data": {crate::api::Format::Json.key(): "x"}}}), None),
        (json!({"target": {"data": {"a".repeat(253): "x"}}}), None),
        (json!({"target": {"data": {"a".repeat(254): "x"}}}), Some("spec.target.data")),
    ] {
        assert_eq!(field(&change), expected, "{change}");
    }
}

#[test]
fn a_valid_spec_becomes_a_plan() {
    let plan = plan_with(
        &json!({"suspend": true, "verification": {}, "token": {"lifetime": "2h", "renewBefore": "10m"}, "target": {"formats": ["Json", "Headers", "Json"]}}),
    );
    let plan = plan.unwrap();
    assert_eq!(
        (plan.suspend, plan.verification.is_some(), plan.lifetime, plan.renew_before),
        (true, true, Some(7200), Some(600))
    );
    assert_eq!(plan.target.formats.len(), 2, "duplicates are removed");
}
