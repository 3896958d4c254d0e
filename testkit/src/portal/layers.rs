//! The layers of the test portal: one feature in `Places`, several pages in `Parcels`.

use axum::http::Uri;
use serde_json::{Value, json};

use super::{PAGE, PARCELS};

/// Answers a query of a layer.
pub fn answer(path: &str, uri: &Uri) -> Value {
    if !path.contains("/Parcels/") {
        return places();
    }
    let query = uri.query().unwrap_or_default().as_bytes();
    let parameter = |name: &str| form_urlencoded::parse(query).find(|(key, _)| key == name).map(|(_, value)| value);
    if parameter("returnCountOnly").is_some_and(|value| value == "true") {
        return json!({ "count": PARCELS });
    }
    if !path.ends_with("/query") {
        return layer();
    }
    let number = |name: &str| parameter(name).and_then(|value| value.parse::<usize>().ok());
    let first = number("resultOffset").unwrap_or(0).min(PARCELS);
    let end = PARCELS.min(first + number("resultRecordCount").unwrap_or(PAGE).min(PAGE));
    let parcel = |number: usize| {
        json!({"attributes": {"OBJECTID": number, "NAME": format!("Parcel {number}")},
                                        "geometry": {"x": -117, "y": 34}})
    };
    features((first + 1..=end).map(parcel), end < PARCELS)
}

fn places() -> Value {
    json!({"geometryType": "esriGeometryPoint", "spatialReference": {"wkid": 4326},
           "fields": [{"name": "NAME", "type": "esriFieldTypeString", "alias": "NAME", "length": 50}],
           "features": [{"attributes": {"NAME": "Redlands"}, "geometry": {"x": -117.19, "y": 34.05}}]})
}

fn fields() -> Value {
    json!([{"name": "OBJECTID", "type": "esriFieldTypeOID", "alias": "OBJECTID"},
           {"name": "NAME", "type": "esriFieldTypeString", "alias": "NAME", "length": 50}])
}

/// Describes the layer, for clients that ask before they query.
fn layer() -> Value {
    json!({"id": 0, "name": "Parcels", "type": "Feature Layer", "geometryType": "esriGeometryPoint",
           "objectIdField": "OBJECTID", "maxRecordCount": PAGE, "capabilities": "Query",
           "supportedQueryFormats": "JSON", "fields": fields(),
           "advancedQueryCapabilities": {"supportsPagination": true}})
}

fn features(features: impl IntoIterator<Item = Value>, more: bool) -> Value {
    let features: Vec<Value> = features.into_iter().collect();
    json!({"objectIdFieldName": "OBJECTID", "geometryType": "esriGeometryPoint", "spatialReference": {"wkid": 4326},
           "fields": fields(), "features": features, "exceededTransferLimit": more})
}
