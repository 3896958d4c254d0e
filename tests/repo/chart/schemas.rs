//! JSON schemas for kubeconform, generated from the API server's `OpenAPI` document.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

const REFERENCE: &str = "#/definitions/";

/// Writes one strict schema per kind: `<group or version>-<kind>-<version>.json`.
pub fn write(openapi: &Value, folder: &Path) {
    let definitions = openapi["definitions"].as_object().unwrap();
    let strict: Map<String, Value> = definitions.iter().map(|(name, schema)| (name.clone(), close(schema))).collect();
    for (name, schema) in definitions {
        let Some(kinds) = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array) else { continue };
        for kind in kinds {
            let of = |field: &str| kind[field].as_str().unwrap_or_default().to_owned();
            let (group, version, kind) = (of("group"), of("version"), of("kind").to_lowercase());
            let group = if group.is_empty() { &version } else { &group };
            let path = folder.join(format!("{group}-{kind}-{version}.json"));
            std::fs::write(path, with_references(name, &strict).to_string()).unwrap();
        }
    }
}

/// Returns the schema without support for unknown fields.
fn close(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return match schema {
            Value::Array(items) => items.iter().map(close).collect(),
            other => other.clone(),
        };
    };
    let mut closed: Map<String, Value> = fields.iter().map(|(name, value)| (name.clone(), close(value))).collect();
    let text = fields.get("type") == Some(&json!("string"));
    let either = fields.get("format") == Some(&json!("int-or-string")) || is_quantity(fields);
    if text && either {
        closed.insert("type".to_owned(), json!(["string", "number"]));
        closed.remove("format");
    }
    let open = ["additionalProperties", "x-kubernetes-preserve-unknown-fields"].iter().any(|f| fields.contains_key(*f));
    if fields.get("properties").is_some_and(Value::is_object) && !open {
        closed.insert("additionalProperties".to_owned(), json!(false));
    }
    Value::Object(closed)
}

fn is_quantity(fields: &Map<String, Value>) -> bool {
    fields.get("description").and_then(Value::as_str).is_some_and(|text| text.starts_with("Quantity is"))
}

/// Returns one definition with those that it references.
fn with_references(name: &str, definitions: &Map<String, Value>) -> Value {
    let (mut pending, mut found) = (vec![name.to_owned()], BTreeSet::new());
    while let Some(name) = pending.pop() {
        if found.insert(name.clone()) {
            references(&definitions[&name], &mut pending);
        }
    }
    let used: Map<String, Value> = found.into_iter().map(|name| (name.clone(), definitions[&name].clone())).collect();
    json!({"$ref": format!("{REFERENCE}{name}"), "definitions": used})
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value.as_str() {
            Some(reference) if key == "$ref" => found.push(reference.trim_start_matches(REFERENCE).to_owned()),
            _ => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
