//! Start in a cluster that is not ready for the operator: readiness reports what is missing, and the operator keeps
//! trying.

use std::time::Duration;

use crate::support::TestEnv;
use testkit::api_proxy::InjectedFault;
use testkit::control_plane::ControlPlane;

/// The bytes that fit into a pipe.
const PIPE: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_is_stuck_stops_nothing() {
    let mut env = TestEnv::without_operator(&[]).await;
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // The pipe is full: the first line waits for ever.
    std::io::Write::write_all(&mut writer, &vec![b'x'; PIPE]).unwrap();
    env.start_with_output(writer.into());
    env.wait_until_ready().await;
    env.ready("logged").await;
    assert_eq!(env.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_permissions_are_reported_and_checked_again() {
    let plane = ControlPlane::from_env().unwrap();
    let unknown = plane.kubeconfig_for("unknown", "unknown-token").unwrap();
    let mut env = TestEnv::new().await;
    env.kill().await;
    env.start_with_kubeconfig(&unknown);
    let answer = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(answer) = env.http_get("/readyz").await
                && answer.contains("not accepted")
            {
                return answer;
            }
            // Nothing can be awaited before the first list has failed.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("arcgisappcredentials.credentials.arcgis.dev"), "{answer}");
    assert!(env.http_get("/livez").await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(env.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_checks_that_failed_are_repeated() {
    let mut env = TestEnv::without_operator_with_api_proxy().await;
    // Two rounds of the six permission checks, and two reads of the service address ranges.
    env.api_proxy().inject(12, InjectedFault::Status(503), |call| call.is("POST", "/selfsubjectaccessreviews"));
    env.api_proxy().inject(2, InjectedFault::Status(503), |call| call.is("GET", "/servicecidrs"));
    env.start().await;
    env.api_proxy().wait_for_faults(14, Duration::from_secs(40)).await.unwrap();
}
