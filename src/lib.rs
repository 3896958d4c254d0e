//! A Kubernetes operator that keeps ArcGIS access tokens fresh.
//!
//! One look at a resource: observe → decide → act → conclude. What to do is a value computed by pure functions in
//! [`core`]; [`arcgis`] and [`cluster`] do the touching, [`controller`] has them take turns.
//!
//! | module | what it is | depends on |
//! |---|---|---|
//! | [`api`] | the resource: spec, status, reasons | nothing |
//! | [`core`] | what to do and when; no I/O, no clock, no async | `api` |
//! | [`arcgis`] | the portal's edge | `api`, `core` |
//! | [`cluster`] | Kubernetes' edge | `api`, `core` |
//! | [`controller`] | watches, index, order of work, one look | all of those |
//! | [`ops`] | metrics, health, logs | told by `controller` |
//! | [`cli`], [`commands`] | flags, and what the commands do | wires all |

pub mod api;
pub mod arcgis;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod controller;
pub mod core;
pub mod index;
pub mod ops;
