//! The CRD is generated from the types, documented like a Kubernetes API, and bounded.

use arcgis_credential_operator::api::{ArcGisAppCredentialStatus, Reason, crd, crd_yaml};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::to_value(crd()).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

/// Calls `visit` with the path and the schema of every property, including those inside lists and maps.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}[]"), visit);
        }
    }
}

#[test]
fn the_committed_crd_is_what_the_program_prints() {
    let printed = crd_yaml().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/arcgisappcredentials.yaml");
    assert!(std::fs::read_to_string(path).unwrap() == printed, "run make generate");
}

/// Counts the words of a description that are not in the name of the field.
fn new_words(description: &str, name: &str) -> usize {
    let words = description.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2);
    words.filter(|word| !name.to_lowercase().contains(&word.to_lowercase())).count()
}

#[test]
fn every_field_has_a_description_that_adds_to_its_name() {
    let mut fields = 0;
    walk(&schema(), "", &mut |path, field| {
        if path.is_empty() || path.ends_with("[]") {
            return;
        }
        let description = field["description"].as_str().unwrap_or_else(|| panic!("{path} has no description"));
        let name = path.rsplit('.').next().unwrap();
        assert!(new_words(description, name) >= 3, "{path}: {description}");
        assert!(description.ends_with('.'), "{path}: {description}");
        fields += 1;
    });
    assert!(fields >= 50, "{fields}");
    assert_eq!(new_words("The client ID key.", "clientIDKey"), 1, "the description only repeats the name");
}

#[test]
fn every_optional_field_of_the_spec_states_its_default() {
    let mut stated = 0;
    walk(&schema()["properties"]["spec"], "spec", &mut |path, field| {
        let required: Vec<&str> =
            field["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in field["properties"].as_object().into_iter().flatten() {
            if !required.contains(&name.as_str()) {
                let description = property["description"].as_str().unwrap_or_default();
                assert!(description.contains("Defaults to"), "{path}.{name}: {description}");
                stated += 1;
            }
        }
    });
    assert!(stated >= 15, "{stated}");
}

#[test]
fn every_string_list_and_map_is_bounded_and_every_list_has_a_list_type() {
    walk(&schema(), "", &mut |path, field| match field["type"].as_str() {
        Some("string") => {
            let bounded = !field["maxLength"].is_null() || !field["enum"].is_null() || field["format"] == "date-time";
            assert!(bounded, "{path}");
        }
        Some("array") => {
            assert!(!field["maxItems"].is_null() && !field["x-kubernetes-list-type"].is_null(), "{path}");
        }
        Some("object") => {
            let map = field["additionalProperties"].is_object();
            assert!(!map || !field["maxProperties"].is_null(), "{path}");
        }
        _ => {}
    });
}

#[test]
fn no_field_is_nullable() {
    walk(&schema(), "", &mut |path, field| assert!(field["nullable"].is_null(), "{path}"));
}

/// Compares with `metav1.Condition`, without its descriptions.
#[test]
fn the_conditions_have_the_schema_of_metav1() {
    let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    let mut condition = conditions["items"].clone();
    for (_, property) in condition["properties"].as_object_mut().unwrap() {
        property.as_object_mut().unwrap().remove("description");
    }
    let reason = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
    let kind = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
    assert_eq!(
        condition["properties"],
        json!({
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "message": {"type": "string", "maxLength": 32768},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0.0},
            "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": reason},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "type": {"type": "string", "maxLength": 316, "pattern": kind},
        })
    );
    assert_eq!(condition["required"], json!(["lastTransitionTime", "message", "reason", "status", "type"]));
}

#[test]
fn the_known_fields_of_a_status_of_a_newer_version_are_read() {
    let time = "2026-01-01T00:00:00Z";
    let token =
        json!({"issueTime": time, "expirationTime": time, "renewalTime": time, "lifetime": "2h", "kind": "new"});
    let ready = json!({"type": "Ready", "status": "True", "reason": "New", "message": "", "lastTransitionTime": time});
    let status = |failure: Value| {
        let status = json!({"observedGeneration": 3, "conditions": [ready, {"type": 5}], "token": token,
                            "failure": failure, "shape": {"new": true}, "targetVersion": "7"});
        ArcGisAppCredentialStatus::read(&status.to_string())
    };
    let read = status(json!({"reason": "NotInvented", "startTime": time}));
    assert_eq!((read.observed_generation, read.conditions.len(), read.target_version.as_deref()), (3, 1, Some("7")));
    assert!(read.token.is_some() && read.failure.is_none());
    let read = status(json!({"reason": "RateLimited", "startTime": time, "severity": "new"}));
    assert_eq!(read.failure.map(|failure| failure.reason), Some(Reason::RateLimited));
}
