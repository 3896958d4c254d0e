//! The memory of the process, as a debugger reads it, holds no secret and no token once it is idle.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use crate::support::fleet::Fleet;
use crate::support::{TestEnv, failure_reason, is};
use futures::future::join_all;
use k8s_openapi::ByteString;
use serde_json::json;
use testkit::portal::App;

/// Each secret and token of this test consists of this, again and again: no part of one is without it.
const MARK: &str = "in-memory-mark+/";
/// The time after the last call that carried a secret.
const IDLE: Duration = Duration::from_mins(1);
const RESOURCES: usize = 20;
const CHUNK: u64 = 1024 * 1024;

fn marked(what: &str) -> String {
    format!("{what}-{}", MARK.repeat(8))
}

/// The mark as text, as a form has it, and in base64, where what is before it has any length.
fn needles() -> Vec<Vec<u8>> {
    let text = [MARK.to_owned(), MARK.replace('+', "%2B").replace('/', "%2F")];
    let base64 = (0..3).map(|before| {
        let encoded = serde_json::to_value(ByteString(format!("{}{MARK}", "x".repeat(before)).into_bytes())).unwrap();
        // Neither what depends on the bytes before it, nor what depends on those after it.
        encoded.as_str().unwrap()[4..20].to_owned()
    });
    text.into_iter().chain(base64).map(String::into_bytes).collect()
}

/// Searches all memory of a process that can be written; returns how often each needle was found.
fn find(pid: u32, needles: &[Vec<u8>]) -> Vec<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = vec![0; needles.len()];
    let longest = needles.iter().map(Vec::len).max().unwrap();
    let (mut first, mut searched) = ([false; 256], 0);
    for needle in needles {
        first[usize::from(needle[0])] = true;
    }
    for line in
        maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|rights| rights.starts_with("rw")))
    {
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut rest = Vec::new();
        for at in (from..to).step_by(usize::try_from(CHUNK).unwrap()) {
            let mut chunk = vec![0; usize::try_from(CHUNK.min(to - at)).unwrap()];
            // It may be gone meanwhile.
            if memory.read_exact_at(&mut chunk, at).is_err() {
                break;
            }
            searched += chunk.len();
            rest.extend_from_slice(&chunk);
            for position in (0..rest.len()).filter(|position| first[usize::from(rest[*position])]) {
                for (needle, found) in needles.iter().zip(&mut found) {
                    *found += usize::from(rest[position..].starts_with(needle));
                }
            }
            rest.drain(..rest.len() - rest.len().min(longest - 1));
        }
    }
    assert!(searched > 1024 * 1024, "{searched} bytes");
    found
}

/// A resource with all that can be rendered, whose app has a secret of its own.
async fn prepare(env: &TestEnv, name: &str, secret: &str, app: App) {
    env.portal.app(name, app);
    env.credentials(&format!("{name}-oauth"), name, secret).await;
    let mut manifest = env.manifest(name, &format!("{name}-oauth"));
    manifest["spec"]["target"]["formats"] = json!(["Headers", "DotEnv", "Json", "RestJs"]);
    manifest["spec"]["target"]["data"] = json!({"url": "https://x?token=$(access_token)"});
    manifest["spec"]["verification"] = json!({});
    env.apply(&manifest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_holds_no_secret_and_no_token() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return eprintln!("not tested: only root reads the memory of a process that is not dumpable");
    }
    // With leader election: calls about the Lease go on while all else is idle.
    let fleet = Fleet::new(1).await;
    let (env, pid) = (&fleet.env, fleet.replicas[0].child.id().unwrap());
    let names: Vec<String> = (0..RESOURCES).map(|n| format!("idle-{n}")).collect();
    join_all(names.iter().map(|name| async move {
        let secret = marked(name);
        prepare(
            env,
            name,
            &secret,
            App { secret: secret.clone(), token: Some(marked(&format!("token-{name}"))), ..App::default() },
        )
        .await;
        env.wait(name, |r| is(r, "Ready", "True", "TokenValid") && is(r, "Verified", "True", "AppKnown")).await;
    }))
    .await;
    // A failed exchange, which takes a while.
    prepare(env, "refused", &marked("wrong"), App { delay: 5000, ..App::default() }).await;
    env.portal.wait_for_requests("refused", 1, Duration::from_secs(10)).await.unwrap();
    let needles = needles();
    let in_flight = find(pid, &needles);
    assert!(in_flight.iter().take(2).sum::<usize>() > 0, "the secret of a request in flight is found: {in_flight:?}");
    env.wait("refused", |r| failure_reason(r) == Some("ClientSecretRejected")).await;
    // A token that is read and rendered again.
    env.change("idle-0", json!({"spec": {"target": {"labels": {"team": "maps"}}}})).await;
    env.wait_target("idle-0", |target| target.metadata.labels.as_ref().unwrap().contains_key("team")).await;
    env.change("refused", json!({"spec": {"suspend": true}})).await;
    env.wait("refused", |r| is(r, "Ready", "False", "Suspended")).await;
    tokio::time::sleep(IDLE).await;
    let requests: usize = names.iter().map(|name| env.portal.requests(name)).sum();
    assert_eq!(requests, RESOURCES, "nothing else was requested meanwhile");
    assert_eq!(find(pid, &needles), vec![0; needles.len()], "text, form, and three forms of base64");
}
