//! Tests of what the repository contains beside the program: CRD, chart, image, monitoring, workflows and documents.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod bench;
mod bounds;
mod causes;
mod chart;
mod crd;
mod diagrams;
mod docs;
mod image;
mod make;
mod modes;
mod monitoring;
mod workflows;
