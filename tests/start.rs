//! A cluster that is not prepared: readiness names what is missing, and the operator goes on trying.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::time::Duration;

use support::World;
use testkit::control_plane::ControlPlane;
use testkit::tap::InjectedFault;

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_named_and_waited_for() {
    let plane = ControlPlane::surrounding().unwrap();
    let nobody = plane.kubeconfig_for("nobody", "unknown-token").unwrap();
    let mut world = World::new().await;
    world.kill().await;
    world.start_as(&nobody);
    let answer = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(answer) = world.ask("/readyz").await
                && answer.contains("not accepted")
            {
                return answer;
            }
            // There is nothing to await before the first list has failed.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("arcgisappcredentials.credentials.arcgis.dev"), "{answer}");
    assert!(world.ask("/livez").await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(world.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_asked_at_the_start_is_asked_again() {
    let mut world = World::idle_tapped().await;
    // Both the rights, of which there are six, and the service addresses twice.
    world.tap().fail(12, InjectedFault::Status(503), |call| call.is("POST", "/selfsubjectaccessreviews"));
    world.tap().fail(2, InjectedFault::Status(503), |call| call.is("GET", "/servicecidrs"));
    world.start().await;
    world.tap().wait_until_caught(14, Duration::from_secs(40)).await.unwrap();
}
