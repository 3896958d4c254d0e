//! The custom resource definition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::spec::ArcGisAppCredential;

/// Returns the CRD as it is installed.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = ArcGisAppCredential::crd();
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let Some(schema) = schema else { continue };
        normalize(schema);
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            // Without it kstatus takes a resource that was never reconciled for one that is up to date.
            status.default = Some(JSON(json!({"observedGeneration": -1})));
            if let Some(field) = status.properties.as_mut().and_then(|fields| fields.get_mut("observedGeneration")) {
                field.default = None;
            }
        }
    }
    crd
}

/// An optional field is left out, and never null: the API server then drops a null instead of storing it. A description is
/// one line, which kubectl wraps.
fn normalize(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    schema.properties.iter_mut().flatten().for_each(|(_, property)| normalize(property));
}

/// Returns the CRD as YAML.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser_error::Error> {
    let mut crd = json!(crd());
    whole_numbers(&mut crd);
    serde_saphyr::to_string(&crd)
}

/// Writes bounds of integers as integers: in the type of a schema they are floating-point numbers.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let whole = number.as_f64().and_then(|float| format!("{float}").parse::<i64>().ok());
            *number = whole.map_or_else(|| number.clone(), Into::into);
        }
        _ => {}
    }
}
