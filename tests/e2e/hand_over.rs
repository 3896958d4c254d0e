//! A change of leader beside many Secrets of others, as figures: `make hand-over`. What each of them requires is tested
//! elsewhere, beside few.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::fleet::{Fleet, HANDOVER_TIMEOUT, TAKEOVER_TIMEOUT, grant, poll_until};
use crate::support::{SECRET, TestEnv, is};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use testkit::api_proxy::InjectedFault;
use testkit::portal::App;

const OTHERS: usize = 30_000;
/// How many are created at once.
const CONCURRENCY: usize = 32;
const LISTED: Duration = Duration::from_mins(3);
/// The leader ends so long before a renewal is due.
const BEFORE_DUE: Duration = Duration::from_secs(1);
/// In seconds. A token is renewed after at most half of it.
const LIFETIME: u64 = 60;

struct Case {
    name: &'static str,
    signal: &'static str,
    /// The time until a new resource is ready.
    limit: Duration,
    /// The next leader lists Secrets without an end.
    held: bool,
}

const CASES: [Case; 4] = [
    Case { name: "planned", signal: "TERM", limit: HANDOVER_TIMEOUT, held: false },
    Case { name: "killed", signal: "KILL", limit: TAKEOVER_TIMEOUT, held: false },
    Case { name: "planned, a list without an end", signal: "TERM", limit: HANDOVER_TIMEOUT, held: true },
    Case { name: "killed, a list without an end", signal: "KILL", limit: TAKEOVER_TIMEOUT, held: true },
];

async fn create_others(env: &TestEnv) {
    let secrets = env.secrets();
    let params = PostParams::default();
    let create = async |n: usize| {
        let body = json!({"metadata": {"name": format!("other-{n}")}, "stringData": {"key": "value of another"}});
        secrets.create(&params, &serde_json::from_value(body).unwrap()).await
    };
    let created = stream::iter(0..OTHERS).map(create).buffer_unordered(CONCURRENCY);
    created.try_for_each(async |_: Secret| Ok(())).await.unwrap();
}

/// How often the log says that Secrets were listed.
fn lists(env: &TestEnv) -> usize {
    env.log().lines().filter(|line| line.contains("\"listed\"") && line.contains("secrets")).count()
}

/// Adds a replica, whose list of Secrets ends or, behind the proxy, does not.
async fn add_replica(fleet: &mut Fleet, held: Option<&Path>) {
    if let Some(proxied) = held {
        fleet.env.api_proxy().inject(usize::MAX, InjectedFault::Held, |call| call.lists("/secrets"));
        // It is not ready before it has listed them once.
        let flags = ["--lease-namespace".to_owned(), fleet.lease_namespace.clone()];
        let replica = fleet.env.replica(proxied, &flags);
        poll_until("it stands by", LISTED, async || (replica.is_leader().await == Some(false)).then_some(())).await;
        fleet.replicas.push(replica);
        return fleet.env.api_proxy().wait_for_faults(1, LISTED).await.unwrap();
    }
    let before = if fleet.replicas.is_empty() { 0 } else { lists(&fleet.env) };
    let started = Instant::now();
    let kubeconfig = fleet.env.kubeconfig();
    fleet.add_replica_within(&kubeconfig, LISTED).await;
    poll_until("it has listed", LISTED, async || (lists(&fleet.env) > before).then_some(())).await;
    println!("a replica has listed {OTHERS} Secrets {:.1?} after its start", started.elapsed());
}

/// Creates a resource whose token is renewed after seconds; returns when that is due.
async fn soon_due(env: &TestEnv, name: &str) -> jiff::Timestamp {
    env.portal.app(name, App { secret: SECRET.to_owned(), lifetime: Some(LIFETIME), ..App::default() });
    env.credentials(&format!("{name}-oauth"), name, SECRET).await;
    env.apply(&env.manifest(name, &format!("{name}-oauth"))).await;
    let ready = env.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
    ready.status.unwrap().token.unwrap().renewal_time
}

/// Ends the leader right before a renewal is due, and applies a new resource.
async fn measure(fleet: &mut Fleet, n: usize, case: &Case) {
    let env = &fleet.env;
    let (due, new) = (format!("due-{n}"), format!("new-{n}"));
    let due_at = soon_due(env, &due).await;
    env.portal.app(&new, App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials(&format!("{new}-oauth"), &new, SECRET).await;
    let left = Duration::try_from(due_at.duration_since(jiff::Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left.saturating_sub(BEFORE_DUE)).await;
    let ended = Instant::now();
    let leader = fleet.replicas.remove(0);
    leader.signal(case.signal).await;
    env.apply(&env.manifest(&new, &format!("{new}-oauth"))).await;
    env.wait_for(&new, case.limit, |r| is(r, "Ready", "True", "TokenValid")).await;
    let served = ended.elapsed();
    fleet.wait_for_requests(&due, 2, TAKEOVER_TIMEOUT).await;
    let journal = env.portal.journal();
    let renewed = journal.iter().filter(|entry| entry.client_id == due).nth(1).unwrap().at;
    let late = renewed.duration_since(due_at).as_secs_f64();
    println!("{}: a new resource is ready after {served:.1?}, the renewal is {late:.1} s late", case.name);
    assert!(late < 20.0, "long before the token ends");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make hand-over"]
async fn hand_over_beside_many_secrets() {
    let mut env = TestEnv::alone_without_operator().await;
    let namespace = env.namespace.clone();
    grant(&env, &namespace).await;
    create_others(&env).await;
    let proxied = env.add_api_proxy().await;
    let mut fleet = Fleet { env, lease_namespace: namespace, replicas: Vec::new() };
    add_replica(&mut fleet, None).await;
    fleet.wait_for_leader(&[0], TAKEOVER_TIMEOUT).await;
    for (n, case) in CASES.iter().enumerate() {
        add_replica(&mut fleet, case.held.then_some(proxied.as_path())).await;
        measure(&mut fleet, n, case).await;
        fleet.wait_for_leader(&[0], TAKEOVER_TIMEOUT).await;
    }
    let Fleet { env, .. } = fleet;
    env.plane.stop().await;
}
