//! The layers of the test portal: one feature in `Places`, several pages in `Parcels`, and `Trails`, which shows a part of
//! its features to everyone.

use axum::http::Uri;
use serde_json::{Value, json};

use super::{PAGE, PARCELS};

/// Whether a layer answers requests without a token, too.
pub fn is_public(path: &str) -> bool {
    path.contains("/Trails/")
}

/// Answers a request for a layer.
pub fn answer(path: &str, uri: &Uri, authorized: bool) -> Value {
    let query = uri.query().unwrap_or_default().as_bytes();
    let parameter = |name: &str| form_urlencoded::parse(query).find(|(key, _)| key == name).map(|(_, value)| value);
    let names = names(path, authorized);
    if parameter("returnCountOnly").is_some_and(|value| value == "true") {
        return json!({ "count": names.len() });
    }
    if !path.ends_with("/query") {
        return layer();
    }
    let number = |name: &str| parameter(name).and_then(|value| value.parse::<usize>().ok());
    let first = number("resultOffset").unwrap_or(0).min(names.len());
    let end = names.len().min(first + number("resultRecordCount").unwrap_or(PAGE).min(PAGE));
    let feature =
        |at: usize| json!({"attributes": {"OBJECTID": at + 1, "NAME": names[at]}, "geometry": {"x": -117, "y": 34}});
    json!({"objectIdFieldName": "OBJECTID", "geometryType": "esriGeometryPoint", "spatialReference": {"wkid": 4326},
           "fields": fields(), "features": (first..end).map(feature).collect::<Vec<_>>(),
           "exceededTransferLimit": end < names.len()})
}

fn names(path: &str, authorized: bool) -> Vec<String> {
    if path.contains("/Parcels/") {
        return (1..=PARCELS).map(|number| format!("Parcel {number}")).collect();
    }
    let names: &[&str] = match (is_public(path), authorized) {
        (true, true) => &["Trail for everyone", "Trail for rangers"],
        (true, false) => &["Trail for everyone"],
        (false, _) => &["Redlands"],
    };
    names.iter().map(ToString::to_string).collect()
}

fn fields() -> Value {
    json!([{"name": "OBJECTID", "type": "esriFieldTypeOID", "alias": "OBJECTID"},
           {"name": "NAME", "type": "esriFieldTypeString", "alias": "NAME", "length": 50}])
}

/// Describes a layer, for clients that ask before they query.
fn layer() -> Value {
    json!({"id": 0, "name": "Layer", "type": "Feature Layer", "geometryType": "esriGeometryPoint",
           "objectIdField": "OBJECTID", "maxRecordCount": PAGE, "capabilities": "Query",
           "supportedQueryFormats": "JSON", "fields": fields(),
           "advancedQueryCapabilities": {"supportsPagination": true}})
}
