//! A Kubernetes operator that keeps `ArcGIS` access tokens fresh.

pub mod api;
