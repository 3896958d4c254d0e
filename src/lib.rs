//! A Kubernetes operator that keeps ArcGIS access tokens fresh.
//!
//! A reconcile of a resource: observe → decide → act → conclude. What to do is a value that pure functions in [`core`]
//! compute; [`arcgis`] and [`cluster`] make the calls, and [`controller`] runs the loop.
//!
//! | module | what it is | depends on |
//! |---|---|---|
//! | [`api`] | the resource: spec, status, reasons | nothing |
//! | [`core`] | what to do and when; no I/O, no clock, no async | `api` |
//! | [`arcgis`] | the portal's client | `api`, `core` |
//! | [`cluster`] | the Kubernetes API's client | `api`, `core` |
//! | [`index`] | what is known of the cluster | `api`, `core`, `cluster` |
//! | [`ops`] | metrics, health, logs | `api`, `index` |
//! | [`controller`] | watches, event loop, reconciler, leader election | all of those |
//! | [`cli`], [`commands`] | flags, and what the commands do | all of those |

pub mod api;
pub mod arcgis;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod controller;
pub mod core;
pub mod index;
pub mod ops;
