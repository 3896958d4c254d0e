//! Several replicas, of which only one acts, regardless of what happens to it or to its Lease.

use std::time::{Duration, Instant};

use crate::support::fleet::{Fleet, HANDOVER_TIMEOUT, LEASE, TAKEOVER_TIMEOUT, grant, handled, poll_until};
use crate::support::link::ApiLink;
use crate::support::{SECRET, TestEnv};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testkit::portal::App;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_hands_over_within_5_s_without_further_calls() {
    let env = TestEnv::without_operator(&[]).await;
    // The namespace and the permissions of the manifests.
    let mut fleet = Fleet::with(env, LEASE.to_owned(), 2).await;
    let first = fleet.wait_for_leader(&[0, 1], HANDOVER_TIMEOUT).await;
    let second = 1 - first;
    for name in ["a", "b", "c"] {
        fleet.ready(name).await;
    }
    fleet.wait_for_standby(second, HANDOVER_TIMEOUT).await;
    // The event is written after the status.
    poll_until("all is written", HANDOVER_TIMEOUT, async || (fleet.calls().len() == 15).then_some(())).await;

    fleet.replicas[first].signal("TERM").await;
    fleet.wait_for_leader(&[second], HANDOVER_TIMEOUT).await;
    assert_eq!(fleet.replicas[first].exit_code().await, Some(0));
    // The new leader would have made an unexpected call by then.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(fleet.calls().len(), 15, "{:?}", fleet.calls());
    assert_eq!(["a", "b", "c"].map(|name| fleet.requests(name)), [1, 1, 1]);
    fleet.env.request_token("a", "now").await;
    fleet.wait_for_requests("a", 2, HANDOVER_TIMEOUT).await;

    fleet.replicas[second].signal("TERM").await;
    assert_eq!(fleet.replicas[second].exit_code().await, Some(0));
    let spec = fleet.leases().get(LEASE).await.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)), "released");
    fleet.assert_one_at_a_time(&["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_finishes_requests_in_flight_before_another_leads() {
    let mut fleet = Fleet::new(2).await;
    let first = fleet.wait_for_leader(&[0, 1], HANDOVER_TIMEOUT).await;
    fleet.ready("slow").await;
    let app = App { secret: SECRET.to_owned(), ..App::default() };
    fleet.env.portal.app("slow", App { hang: true, ..app.clone() });
    fleet.env.request_token("slow", "now").await;
    fleet.wait_for_requests("slow", 2, Duration::from_secs(10)).await;
    fleet.env.portal.app("slow", app);
    let stopped = Instant::now();
    fleet.replicas[first].signal("TERM").await;
    let ended = async {
        let code = fleet.replicas[first].child.wait().await.unwrap().code();
        (code, fleet.env.portal.requests("slow"))
    };
    let (code, requests) = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    assert_eq!((code, requests), (Some(0), 2));
    assert!(stopped.elapsed() > Duration::from_secs(10), "the request took its 15 s");
    fleet.wait_for_leader(&[1 - first], HANDOVER_TIMEOUT).await;
    fleet.wait_for_requests("slow", 3, Duration::from_secs(10)).await;
    fleet.assert_one_at_a_time(&["slow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_take_over_one_after_the_other_and_only_one_acts_at_a_time() {
    let mut fleet = Fleet::new(3).await;
    let first = fleet.wait_for_leader(&[0, 1, 2], HANDOVER_TIMEOUT).await;
    for name in ["a", "b", "c"] {
        fleet.ready(name).await;
    }
    let _requests = fleet.request_repeatedly(&["a", "b", "c"]);
    fleet.wait_for_requests("a", 3, TAKEOVER_TIMEOUT).await;
    fleet.replicas[first].signal("KILL").await;
    let rest: Vec<usize> = (0..3).filter(|n| *n != first).collect();
    let second = fleet.wait_for_leader(&rest, TAKEOVER_TIMEOUT).await;
    let third = 3 - first - second;
    let requests = fleet.requests("a");
    fleet.wait_for_requests("a", requests + 2, TAKEOVER_TIMEOUT).await;
    fleet.assert_running(third).await;

    fleet.replicas[second].signal("TERM").await;
    fleet.wait_for_leader(&[third], HANDOVER_TIMEOUT).await;
    assert_eq!(fleet.replicas[second].exit_code().await, Some(0));
    let requests = fleet.requests("a");
    fleet.wait_for_requests("a", requests + 2, TAKEOVER_TIMEOUT).await;
    fleet.assert_one_at_a_time(&["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_steps_down_when_it_resumes_and_leads_again_with_fresh_state() {
    let mut fleet = Fleet::new(2).await;
    let first = fleet.wait_for_leader(&[0, 1], HANDOVER_TIMEOUT).await;
    let second = 1 - first;
    let name_of_first = fleet.holder().await;
    let idle = ["b", "c", "d", "e"];
    for name in ["a"].iter().chain(&idle) {
        fleet.ready(name).await;
    }
    let app = App { secret: SECRET.to_owned(), ..App::default() };
    fleet.env.portal.app("a", App { hang: true, ..app.clone() });
    fleet.env.request_token("a", "one").await;
    fleet.wait_for_requests("a", 2, Duration::from_secs(10)).await;
    fleet.replicas[first].signal("STOP").await;
    fleet.env.portal.app("a", app);
    fleet.wait_for_leader(&[second], TAKEOVER_TIMEOUT).await;
    // The second replica handles the requests; the first receives their watch events one by one when it resumes.
    fleet.wait_for_requests("a", 3, HANDOVER_TIMEOUT).await;
    for name in idle {
        fleet.env.request_token(name, "two").await;
        fleet.wait_for_requests(name, 2, Duration::from_secs(10)).await;
    }
    fleet.replicas[first].signal("CONT").await;
    fleet.wait_for_standby(first, HANDOVER_TIMEOUT).await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(fleet.requests("a"), 3, "nothing is requested on resume");
    assert_eq!(idle.map(|name| fleet.requests(name)), [2; 4], "nothing is requested on resume");

    // A Lease with its name does not make it the leader again.
    let requests_until_drop = fleet.request_repeatedly(&["a"]);
    fleet.wait_for_requests("a", 4, Duration::from_secs(10)).await;
    fleet.set_holder(&name_of_first).await;
    fleet.wait_for_standby(second, HANDOVER_TIMEOUT).await;
    assert_eq!(fleet.replicas[first].is_leader().await, Some(false), "it did not take the lease");
    let last = fleet.wait_for_leader(&[first, second], TAKEOVER_TIMEOUT).await;
    let requests = fleet.requests("a");
    fleet.wait_for_requests("a", requests + 1, Duration::from_secs(10)).await;
    fleet.assert_running(first).await;
    fleet.assert_running(second).await;
    drop(requests_until_drop);

    // Both have led before. The next leader must not use its outdated state.
    fleet.env.request_token("a", "last").await;
    fleet.env.wait("a", |r| handled(r, "last")).await;
    let (calls, requests) = (fleet.calls().len(), fleet.requests("a"));
    fleet.replicas[last].signal("TERM").await;
    fleet.wait_for_leader(&[1 - last], HANDOVER_TIMEOUT).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!((fleet.calls().len(), fleet.requests("a")), (calls, requests), "{:?}", &fleet.calls()[calls..]);
    fleet.assert_one_at_a_time(&["a", "b", "c", "d", "e"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_stale_watches_repeats_no_request() {
    let mut fleet = Fleet::new(2).await;
    let first = fleet.wait_for_leader(&[0, 1], HANDOVER_TIMEOUT).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        fleet.ready(name).await;
    }
    let sleeper = 1 - first;
    fleet.replicas[sleeper].signal("STOP").await;
    for name in names {
        fleet.env.request_token(name, "one").await;
    }
    for name in names {
        fleet.env.wait(name, |r| handled(r, "one")).await;
    }
    // Tokens that are old enough would be requested again at once.
    sleep(Duration::from_secs(5)).await;
    fleet.replicas[first].signal("TERM").await;
    assert_eq!(fleet.replicas[first].exit_code().await, Some(0));
    let calls = fleet.calls().len();
    fleet.replicas[sleeper].signal("CONT").await;
    fleet.wait_for_leader(&[sleeper], HANDOVER_TIMEOUT).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(names.map(|name| fleet.requests(name)), [2; 6]);
    // Targets that its watch had not reported yet are read.
    let more = fleet.calls().split_off(calls);
    assert!(more.len() <= 6 && more.iter().all(|(verb, ..)| verb == "get"), "{more:?}");
    fleet.assert_running(sleeper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lease_stays_with_its_leader() {
    let fleet = Fleet::new(2).await;
    let first = fleet.wait_for_leader(&[0, 1], HANDOVER_TIMEOUT).await;
    for name in ["a", "b"] {
        fleet.ready(name).await;
    }
    let _requests = fleet.request_repeatedly(&["a", "b"]);
    let holder = fleet.holder().await;
    for _ in 0..3 {
        fleet.leases().delete(LEASE, &DeleteParams::default()).await.unwrap();
        // The other replica may create it first, without a holder.
        let held =
            async || fleet.leases().get_opt(LEASE).await.unwrap()?.spec.filter(|spec| spec.holder_identity.is_some());
        let taken = poll_until("the lease has a holder", HANDOVER_TIMEOUT, held).await;
        assert_eq!(taken.holder_identity.as_ref(), Some(&holder));
        assert_eq!(fleet.replicas[first].is_leader().await, Some(true));
        assert_eq!(fleet.replicas[1 - first].is_leader().await, Some(false));
        // The other replica reads it every second. One that found it missing each time would count from the first time.
        let renewed = async || held().await.filter(|spec| spec.renew_time > taken.renew_time);
        poll_until("it is renewed", HANDOVER_TIMEOUT, renewed).await;
    }
    // Even when it is killed at the same moment.
    fleet.replicas[first].signal("KILL").await;
    fleet.leases().delete(LEASE, &DeleteParams::default()).await.unwrap();
    fleet.wait_for_leader(&[1 - first], TAKEOVER_TIMEOUT).await;
    let requests = fleet.requests("a");
    fleet.wait_for_requests("a", requests + 1, Duration::from_secs(10)).await;
    fleet.assert_one_at_a_time(&["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_with_an_unknown_holder_is_respected_until_it_expires() {
    let mut fleet = Fleet::new(2).await;
    let first = fleet.wait_for_leader(&[0, 1], HANDOVER_TIMEOUT).await;
    fleet.ready("a").await;
    let _requests = fleet.request_repeatedly(&["a"]);
    fleet.wait_for_requests("a", 2, Duration::from_secs(10)).await;
    // Neither another holder nor an empty one releases the Lease.
    for holder in ["unknown", ""] {
        let leader = fleet.wait_for_leader(&[0, 1], TAKEOVER_TIMEOUT).await;
        fleet.set_holder(holder).await;
        fleet.wait_for_standby(leader, HANDOVER_TIMEOUT).await;
        let requests = fleet.requests("a");
        sleep(Duration::from_secs(4)).await;
        assert_eq!(fleet.requests("a"), requests, "no replica acts");
        fleet.wait_for_leader(&[0, 1], TAKEOVER_TIMEOUT).await;
        fleet.wait_for_requests("a", requests + 1, Duration::from_secs(10)).await;
    }
    fleet.assert_running(first).await;
    fleet.assert_running(1 - first).await;
    fleet.assert_one_at_a_time(&["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_for_the_lease_is_reported_and_checked_again() {
    let env = TestEnv::without_operator(&[]).await;
    let namespace = format!("{}-lease", env.namespace);
    let body = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
    Api::<Namespace>::all(env.client.clone()).create(&PostParams::default(), &body).await.unwrap();
    let flags = ["--lease-namespace".to_owned(), namespace.clone()];
    let replica = env.replica(&TestEnv::restricted(), &flags);
    let response = poll_until("readiness names the lease", TAKEOVER_TIMEOUT, async || {
        replica.http_get("/readyz").await.filter(|answer| answer.contains("leases.coordination.k8s.io"))
    })
    .await;
    assert!(response.starts_with("HTTP/1.1 503") && response.contains("missing right"), "{response}");
    let mut fleet = Fleet { env, lease_namespace: namespace.clone(), replicas: vec![replica] };
    fleet.env.credentials("app-oauth", "app", SECRET).await;
    fleet.env.apply(&fleet.env.manifest("app", "app-oauth")).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!((fleet.requests("app"), fleet.replicas[0].is_leader().await), (0, Some(false)));
    let log = fleet.env.log();
    assert_eq!(log.matches("missing right to get, create and update").count(), 1, "one warning");
    grant(&fleet.env, &namespace).await;
    fleet.wait_for_leader(&[0], HANDOVER_TIMEOUT).await;
    fleet.wait_for_requests("app", 1, HANDOVER_TIMEOUT).await;
    fleet.assert_running(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_the_api_server_requests_nothing_and_resumes_if_nobody_took_over() {
    let mut fleet = Fleet::new(0).await;
    let api_link = ApiLink::start(&fleet.env).await;
    fleet.add_replica(&api_link.kubeconfig).await;
    fleet.wait_for_leader(&[0], HANDOVER_TIMEOUT).await;
    fleet.ready("a").await;
    api_link.cut(true);
    fleet.wait_for_standby(0, Duration::from_secs(10)).await;
    api_link.cut(false);
    fleet.wait_for_leader(&[0], HANDOVER_TIMEOUT).await;
    let transitions = fleet.leases().get(LEASE).await.unwrap().spec.unwrap().lease_transitions;
    assert_eq!((fleet.requests("a"), transitions), (1, Some(0)), "its term continues");

    // A token that is issued during an interruption is written after it.
    let late = App { secret: SECRET.to_owned(), delay: 2000, ..App::default() };
    fleet.env.portal.app("late", late);
    fleet.env.credentials("late-oauth", "late", SECRET).await;
    fleet.env.apply(&fleet.env.manifest("late", "late-oauth")).await;
    fleet.wait_for_requests("late", 1, HANDOVER_TIMEOUT).await;
    api_link.cut(true);
    fleet.wait_for_standby(0, Duration::from_secs(10)).await;
    api_link.cut(false);
    fleet.env.wait("late", |r| crate::support::is(r, "Ready", "True", "TokenValid")).await;
    assert_eq!(fleet.requests("late"), 1, "an issued token is not requested again");

    fleet.add_replica(&TestEnv::restricted()).await;
    let app = App { secret: SECRET.to_owned(), ..App::default() };
    fleet.env.portal.app("a", App { hang: true, ..app.clone() });
    fleet.env.request_token("a", "one").await;
    fleet.wait_for_requests("a", 2, Duration::from_secs(15)).await;
    api_link.cut(true);
    fleet.env.portal.app("a", app);
    // Both can reach the portal.
    fleet.wait_for_leader(&[1], TAKEOVER_TIMEOUT).await;
    assert_eq!(fleet.replicas[0].is_leader().await, Some(false));
    fleet.wait_for_requests("a", 3, HANDOVER_TIMEOUT).await;
    fleet.env.request_token("a", "two").await;
    fleet.wait_for_requests("a", 4, Duration::from_secs(10)).await;
    api_link.cut(false);
    fleet.wait_for_standby(0, HANDOVER_TIMEOUT).await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(fleet.requests("a"), 4, "requests of the other replica are not repeated");
    fleet.assert_running(0).await;
    fleet.assert_one_at_a_time(&["a"]);
}
