//! After a failure: whether action is required, when it is retried, and what survives a restart.

use std::time::{Duration, Instant};

use crate::support::fleet::poll_until;
use crate::support::{SECRET, TestEnv, condition, failure_reason, is};
use arcgis_credential_operator::api::{ArcGisAppCredential, Failure};
use jiff::Timestamp;
use serde_json::json;
use testkit::portal::{Answer, App};

fn failure(resource: &ArcGisAppCredential) -> Failure {
    resource.status.clone().unwrap().failure.unwrap()
}

fn wait(failure: &Failure) -> i64 {
    failure.next_attempt_time.unwrap().as_second() - failure.last_attempt_time.unwrap().as_second()
}

async fn wrong_secret(env: &TestEnv, name: &str) -> ArcGisAppCredential {
    env.portal.app(name, App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials(&format!("{name}-oauth"), name, crate::support::WRONG_SECRET).await;
    env.apply(&env.manifest(name, &format!("{name}-oauth"))).await;
    env.wait(name, |r| is(r, "Stalled", "True", "ClientSecretRejected")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_requires_action_and_its_wait_survive_a_restart() {
    let mut env = TestEnv::new().await;
    let before = failure(&wrong_secret(&env, "app").await);
    assert_eq!(before.count, Some(1));
    assert!((60..=76).contains(&wait(&before)) && before.inputs.is_some());
    env.kill().await;
    env.start().await;
    // Another resource that becomes ready shows that the restarted operator reconciles.
    env.ready("next").await;
    let after = env.resources().get("app").await.unwrap();
    assert_eq!(failure(&after), before);
    assert_eq!(env.portal.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_s_change_overrides_the_wait_even_if_made_while_the_operator_was_down() {
    let mut env = TestEnv::new().await;
    wrong_secret(&env, "app").await;
    env.kill().await;
    env.credentials("app-oauth", "app", SECRET).await;
    env.start().await;
    env.wait("app", |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
    assert_eq!(env.portal.requests("app"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_by_a_user_resets_the_failure_count() {
    let env = TestEnv::new().await;
    wrong_secret(&env, "app").await;
    for (requests, wrong) in [(2, "canary-client-secret-wrong-2"), (3, "canary-client-secret-wrong-3")] {
        env.credentials("app-oauth", "app", wrong).await;
        env.portal.wait_for_requests("app", requests, Duration::from_secs(10)).await.unwrap();
    }
    env.request_token("app", "please").await;
    let handled =
        |r: &ArcGisAppCredential| r.status.as_ref().unwrap().last_handled_request.as_deref() == Some("please");
    let resource = env.wait("app", handled).await;
    assert_eq!(failure(&resource).count, Some(1));
    assert_eq!(env.portal.requests("app"), 4, "the failed attempt handles the requested renewal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_only_a_change_resolves_has_no_next_attempt_and_is_resolved_within_5_s() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", "").await;
    env.apply(&env.manifest("empty", "oauth")).await;
    let resource = env.wait("empty", |r| is(r, "Stalled", "True", "CredentialsIncomplete")).await;
    assert_eq!(failure(&resource).next_attempt_time, None);
    assert!(
        condition(&resource, "Stalled").unwrap().message.starts_with("Key client_secret of Secret oauth is empty.")
    );
    env.credentials("oauth", "app", SECRET).await;
    env.wait_for("empty", Duration::from_secs(5), |r| is(r, "Ready", "True", "TokenValid")).await;
    env.credentials("oauth", "app", " ").await;
    let broken =
        env.wait_for("empty", Duration::from_secs(5), |r| is(r, "Stalled", "True", "CredentialsIncomplete")).await;
    assert!(is(&broken, "Ready", "True", "TokenValid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_of_inputs_that_worked_before_is_retried_within_15_minutes() {
    let env = TestEnv::new().await;
    env.ready("worked").await;
    let rejection = Answer { status: 403, body: "<html>maintenance</html>".to_owned(), ..Answer::default() };
    env.portal.app("worked", App { secret: SECRET.to_owned(), answer: Some(rejection), ..App::default() });
    env.request_token("worked", "now").await;
    let resource = env.wait("worked", |r| is(r, "Stalled", "True", "RequestRejected")).await;
    assert!(is(&resource, "Ready", "True", "TokenValid"));
    assert!((60..=76).contains(&wait(&failure(&resource))));
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_survives_a_restart_and_no_change_overrides_it() {
    let mut env = TestEnv::new().await;
    let limited = Answer {
        status: 429,
        headers: [("Retry-After".to_owned(), "200".to_owned())].into(),
        body: "slow down".to_owned(),
    };
    env.portal.app("app", App { secret: SECRET.to_owned(), answer: Some(limited), ..App::default() });
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("limited", "oauth")).await;
    let resource = env.wait("limited", |r| is(r, "Reconciling", "True", "RateLimited")).await;
    assert!(condition(&resource, "Stalled").is_none());
    assert!((200..=252).contains(&wait(&failure(&resource))));
    env.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    env.portal.app("next", App { secret: SECRET.to_owned(), ..App::default() });
    env.kill().await;
    env.start().await;
    env.request_token("limited", "now").await;
    env.credentials("next-oauth", "next", SECRET).await;
    env.apply(&env.manifest("next", "next-oauth")).await;
    env.wait("next", |r| is(r, "Ready", "False", "RateLimited")).await;
    assert_eq!((env.portal.requests("app"), env.portal.requests("next")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_failure_is_reported_once_and_its_count_is_not_in_the_status() {
    let env = TestEnv::new().await;
    env.ready("outage").await;
    env.portal.outage(true);
    env.request_token("outage", "now").await;
    let first = env.wait("outage", |r| failure_reason(r) == Some("PortalUnreachable")).await;
    env.portal.wait_for_requests("outage", 1, Duration::from_secs(1)).await.unwrap();
    // Long enough for several more attempts: 2, 4 and 8 s apart.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let later = env.resources().get("outage").await.unwrap();
    assert_eq!(later.metadata.resource_version, first.metadata.resource_version, "no status was written meanwhile");
    let failure = failure(&later);
    assert_eq!((failure.count, failure.next_attempt_time, failure.inputs), (None, None, None));
    assert!(failure.start_time <= Timestamp::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_reported_as_reconciling_and_a_wrong_spec_as_stalled() {
    let env = TestEnv::new().await;
    env.apply(&env.manifest("missing", "later")).await;
    let missing = env.wait("missing", |r| is(r, "Ready", "False", "CredentialsNotFound")).await;
    assert!(is(&missing, "Reconciling", "True", "CredentialsNotFound") && condition(&missing, "Stalled").is_none());
    env.credentials("later", "app", SECRET).await;
    env.wait_for("missing", Duration::from_secs(5), |r| is(r, "Ready", "True", "TokenValid")).await;
    env.change("missing", json!({"spec": {"portal": {"url": "https://elsewhere.example.com"}}})).await;
    let wrong = env.wait("missing", |r| is(r, "Stalled", "True", "PortalNotAllowed")).await;
    assert!(is(&wrong, "Ready", "True", "TokenValid"), "the token stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_all_that_failed_is_retried_with_the_first_success() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    for n in 0..13 {
        env.apply(&env.manifest(&format!("r{n}"), "oauth")).await;
    }
    for n in 0..13 {
        env.wait(&format!("r{n}"), |r| is(r, "Ready", "True", "TokenValid")).await;
    }
    env.portal.outage(true);
    // By then the waits of the first are 32 s and more.
    let mut due = tokio::time::interval(Duration::from_secs(4));
    for n in 0..12 {
        due.tick().await;
        env.request_token(&format!("r{n}"), "outage").await;
    }
    due.tick().await;
    env.portal.outage(false);
    let began = Instant::now();
    env.request_token("r12", "outage").await;
    for n in 0..13 {
        let renewed = |r: &ArcGisAppCredential| {
            let status = r.status.as_ref().filter(|status| status.failure.is_none());
            status.is_some_and(|status| status.last_handled_request.as_deref() == Some("outage"))
        };
        env.wait(&format!("r{n}"), renewed).await;
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_answers_nothing_is_tried_every_15_seconds_for_a_resource_without_a_token() {
    let env = TestEnv::new().await;
    env.portal.outage(true);
    env.credentials("oauth", "app", SECRET).await;
    env.apply(&env.manifest("probed", "oauth")).await;
    // By its own back-off alone, the eighth request comes after four minutes.
    poll_until("the eighth request has failed", Duration::from_secs(100), async || {
        (env.log().matches("no token (").count() >= 8).then_some(())
    })
    .await;
    env.portal.outage(false);
    env.wait_for("probed", Duration::from_secs(20), |r| is(r, "Ready", "True", "TokenValid")).await;
}
