//! Checks of published tokens with the portal.

use std::time::{Duration, Instant};

use crate::support::fleet::{Replica, TAKEOVER_TIMEOUT, poll_until};
use crate::support::link::ApiLink;
use crate::support::{SECRET, TestEnv, failure_reason, is};
use kube::api::DeleteParams;
use serde_json::json;
use testkit::portal::{Answer, App, Certificate, Portal};

/// The interval of these tests, and the time that the contract allows on top.
const NOTICED: Duration = Duration::from_secs(60 + 30);

async fn make(env: &TestEnv, name: &str, app: App, required: &[&str]) {
    env.portal.app(name, app);
    env.credentials(&format!("{name}-oauth"), name, SECRET).await;
    let mut manifest = env.manifest(name, &format!("{name}-oauth"));
    manifest["spec"]["verification"] = json!({"interval": "1m", "requiredPrivileges": required});
    env.apply(&manifest).await;
}

fn app() -> App {
    App { secret: SECRET.to_owned(), ..App::default() }
}

/// How often the portal was asked about tokens of an app.
fn checks(env: &TestEnv, app: &str) -> usize {
    env.portal.journal().iter().filter(|entry| entry.path.ends_with("/portals/self") && entry.client_id == app).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_the_portal_ends_early_are_replaced_within_an_interval() {
    let env = TestEnv::new().await;
    let names: Vec<String> = (0..50).map(|n| format!("r{n}")).collect();
    for name in &names {
        make(&env, name, app(), &[]).await;
    }
    for name in &names {
        env.wait(name, |r| is(r, "Verified", "True", "AppKnown")).await;
    }
    env.portal.revoke_all();
    let started = Instant::now();
    for name in &names {
        poll_until("a new token", NOTICED, async || {
            let token = env.target(name).await["access_token"].clone();
            env.portal.tokens().contains(&token).then_some(())
        })
        .await;
    }
    println!("50 tokens were replaced within {:?}", started.elapsed());
    for name in &names {
        env.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
        assert_eq!(env.portal.requests(name), 2, "{name}: one request for the rejected token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_not_ready_and_is_replaced_once_in_5_minutes() {
    let env = TestEnv::new().await;
    make(&env, "broken", App { reject_tokens: true, ..app() }, &[]).await;
    env.wait("broken", |r| is(r, "Ready", "False", "TokenRejected")).await;
    env.wait("broken", |r| is(r, "Verified", "False", "TokenRejected")).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(env.portal.requests("broken"), 2, "the first token, and one because it is rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege_is_reported_and_requests_nothing() {
    let env = TestEnv::new().await;
    make(&env, "poor", app(), &["premium:user:geocode", "premium:user:networkanalysis"]).await;
    let resource = env.wait("poor", |r| is(r, "Verified", "False", "PrivilegesMissing")).await;
    let status = resource.status.unwrap();
    let verified = status.conditions.iter().find(|c| c.type_ == "Verified").unwrap();
    assert!(verified.message.contains("networkanalysis") && !verified.message.contains("geocode"), "{verified:?}");
    assert_eq!(status.app.unwrap().app_id.as_deref(), Some("poor"));
    assert_eq!(env.portal.requests("poor"), 1);
    env.metrics_with(&["arcgis_credential_verified{", "outcome=\"AppKnown\""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_repeat_in_intervals_with_one_read_and_without_a_write() {
    let env = TestEnv::new().await;
    make(&env, "steady", app(), &[]).await;
    env.wait("steady", |r| is(r, "Verified", "True", "AppKnown")).await;
    // The event is written after the status.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = env.calls().len();
    poll_until("the next check", NOTICED, async || (checks(&env, "steady") >= 2).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls: Vec<_> = env.calls().split_off(before).into_iter().filter(|(verb, ..)| verb != "watch").collect();
    assert_eq!(calls, [("get".to_owned(), "secrets".to_owned(), String::new(), false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_follows_the_pause_of_its_host() {
    const PAUSE: Duration = Duration::from_secs(90);
    let env = TestEnv::new().await;
    make(&env, "checked", app(), &[]).await;
    env.wait("checked", |r| is(r, "Verified", "True", "AppKnown")).await;
    let headers = [("Retry-After".to_owned(), PAUSE.as_secs().to_string())].into();
    let limited = Answer { status: 429, headers, body: String::new() };
    make(&env, "limited", App { answer: Some(limited), ..app() }, &[]).await;
    env.portal.wait_for_requests("limited", 1, Duration::from_secs(20)).await.unwrap();
    let (paused, before) = (Instant::now(), checks(&env, "checked"));
    let limit = PAUSE + Duration::from_secs(30);
    poll_until("the next check", limit, async || (checks(&env, "checked") > before).then_some(())).await;
    assert!(paused.elapsed() + Duration::from_secs(2) > PAUSE, "{:?}", paused.elapsed());
}

/// The check can be made while a request of another app waits for an answer, and a host at capacity delays it.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_takes_one_of_the_permits_of_its_host() {
    let env = TestEnv::new().await;
    for n in 0..8 {
        let name = format!("slow{n}");
        env.portal.app(&name, App { hang: true, ..app() });
        env.credentials(&format!("{name}-oauth"), &name, SECRET).await;
    }
    make(&env, "checked", App { delay: 2000, ..app() }, &[]).await;
    env.portal.wait_for_requests("checked", 1, Duration::from_secs(20)).await.unwrap();
    for n in 0..8 {
        env.apply(&env.manifest(&format!("slow{n}"), &format!("slow{n}-oauth"))).await;
    }
    env.wait("checked", |r| is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(checks(&env, "checked"), 0, "all permits are in use");
    // The requests time out after 15 s, and a check that was not admitted is made 10 s later.
    let limit = Duration::from_mins(1);
    poll_until("the check", limit, async || (checks(&env, "checked") > 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_lost_with_the_claim_is_made_again_within_10_s() {
    let mut env = TestEnv::without_operator(&[]).await;
    let link = ApiLink::start(&env).await;
    let admin = env.admin;
    env.start_with_kubeconfig(&link.kubeconfig);
    env.portal.app("lost", App { hang_on_verify: true, ..app() });
    env.credentials("lost-oauth", "lost", SECRET).await;
    let mut manifest = env.manifest("lost", "lost-oauth");
    manifest["spec"]["verification"] = json!({"interval": "24h"});
    env.apply(&manifest).await;
    poll_until("the check", NOTICED, async || (checks(&env, "lost") == 1).then_some(())).await;
    // The claim ends after 8 s, before the portal's time to answer does.
    link.cut(true);
    let operator = Replica { child: env.operator.take().unwrap(), admin };
    poll_until("the claim is lost", TAKEOVER_TIMEOUT, async || {
        (operator.is_leader().await == Some(false)).then_some(())
    })
    .await;
    env.portal.app("lost", app());
    link.cut(false);
    poll_until("the claim is back", TAKEOVER_TIMEOUT, async || operator.is_leader().await.filter(|leads| *leads)).await;
    env.wait_for("lost", Duration::from_secs(10), |r| is(r, "Verified", "True", "AppKnown")).await;
    assert_eq!((env.portal.requests("lost"), checks(&env, "lost")), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_sent_to_a_portal_that_did_not_issue_it() {
    let other = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    let env = TestEnv::with_flags(&["--allowed-portal", &other.url()]).await;
    env.ready("moved").await;
    env.ca_bundle("ca", other.ca()).await;
    let mut manifest = env.manifest("moved", "moved-oauth");
    manifest["spec"]["portal"] = json!({"url": other.url(), "caBundleRef": {"name": "ca"}});
    manifest["spec"]["verification"] = json!({"interval": "1m"});
    env.apply(&manifest).await;
    // The other portal has no such app.
    env.wait("moved", |r| is(r, "Stalled", "True", "ClientIdRejected")).await;
    // A check would begin right after the status was written.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(other.journal().iter().all(|entry| !entry.path.ends_with("/portals/self")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_its_ca_bundle_is_made_again_after_an_interval() {
    let env = TestEnv::new().await;
    env.credentials("oauth", "app", SECRET).await;
    env.ca_bundle("ca", env.portal.ca()).await;
    let mut manifest = env.manifest("named", "oauth");
    manifest["spec"]["portal"]["caBundleRef"] = json!({"name": "ca"});
    env.apply(&manifest).await;
    env.wait("named", |r| is(r, "Ready", "True", "TokenValid")).await;
    env.config_maps().delete("ca", &DeleteParams::default()).await.unwrap();
    env.wait("named", |r| failure_reason(r) == Some("CaBundleNotFound")).await;
    let reads = || env.calls().iter().filter(|(verb, resource, ..)| verb == "get" && resource == "configmaps").count();
    let before = reads();
    manifest["spec"]["verification"] = json!({"interval": "1m"});
    env.apply(&manifest).await;
    poll_until("the check", NOTICED, async || (reads() > before).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(reads(), before + 1);
}
