//! The image and the chart on a real node with real pods: run by `make e2e`. The steps share one release and one workload,
//! so they run in order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod cluster;
mod disturbances;
mod portal;
mod report;
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod workload;

use std::process::ExitCode;

use report::Report;
use steps::Scenario;

fn main() -> ExitCode {
    if std::env::var_os("NODE").is_none() {
        report::line("node: skipped, because no node runs: `make e2e` starts one");
        return ExitCode::SUCCESS;
    }
    let mut report = Report::new(12);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(run(&mut report));
    ExitCode::SUCCESS
}

async fn run(report: &mut Report) {
    let mut scenario = Scenario::install(report).await;
    scenario.first_token(report).await;
    scenario.helm_test(report);
    scenario.default_delay(report).await;
    scenario.kubelet_restart(report).await;
    scenario.three_renewals(report).await;
    scenario.operator_killed(report).await;
    scenario.upgrade_and_rollback(report).await;
    scenario.leader_deleted(report).await;
    scenario.openshift(report).await;
    scenario.outage(report).await;
    scenario.summary(report).await;
}
