//! A portal host with as many requests in flight as allowed.

use std::time::Duration;

use arcgis_credential_operator::api::Reason;
use testkit::portal::App;

use crate::support::fleet::poll_until;
use crate::support::{SECRET, TestEnv, failure_reason, is};

/// Lets eight requests be in flight, none of which is answered.
async fn occupy(env: &TestEnv) {
    for n in 0..8 {
        let name = format!("slow{n}");
        env.portal.app(&name, App { secret: SECRET.to_owned(), hang: true, ..App::default() });
        env.credentials(&format!("{name}-oauth"), &name, SECRET).await;
        env.apply(&env.manifest(&name, &format!("{name}-oauth"))).await;
    }
    for n in 0..8 {
        env.portal.wait_for_requests(&format!("slow{n}"), 1, Duration::from_secs(20)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_reported_while_the_host_has_no_request_to_spare() {
    let env = TestEnv::new().await;
    occupy(&env).await;
    env.credentials("blank", "app", " ").await;
    env.apply(&env.manifest("empty", "blank")).await;
    let incomplete = Reason::CredentialsIncomplete.as_str();
    env.wait_for("empty", Duration::from_secs(5), |r| failure_reason(r) == Some(incomplete)).await;
    let ended = env.portal.journal().iter().filter(|entry| entry.ended.is_some()).count();
    assert_eq!(ended, 0, "all eight are in flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_waited_for_5_s_are_read_again_before_they_are_sent() {
    let env = TestEnv::new().await;
    occupy(&env).await;
    env.portal.app("next", App { secret: "rotated".to_owned(), ..App::default() });
    env.credentials("next-oauth", "next", "before").await;
    env.apply(&env.manifest("next", "next-oauth")).await;
    let reads = || env.reads().iter().filter(|read| read.contains("/next-oauth")).count();
    poll_until("its credentials are read", Duration::from_secs(10), async || (reads() > 0).then_some(())).await;
    env.credentials("next-oauth", "next", "rotated").await;
    // The requests that are not answered end 15 s after they were sent.
    env.wait("next", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!((env.portal.requests("next"), reads()), (1, 2));
}
