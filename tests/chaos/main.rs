//! Chaos: a fleet with two replicas on a control plane of its own, while faults of the cluster, of the portal and of the
//! users overlap at random.
//!
//! `make chaos` runs it for ten minutes; `SEED=7` repeats the faults of one run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may")]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod collect;
mod faults;
mod observer;
mod plan;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use testkit::control_plane::{ControlPlane, ENV, binaries};
use tokio::time::{Instant, sleep};

use checks::{Findings, Ms, Run, check_calls, check_limits, check_renewals, check_requests};
use collect::run;
use observer::Observer;
use stage::{Stage, now};
use support::canaries::leaked;

const CONVERGE: Duration = Duration::from_mins(2);
const MEMORY_LIMIT: u64 = 128 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// How large a run is.
struct Size {
    full: bool,
    seed: u64,
    length: Duration,
    resources: usize,
    /// In seconds.
    lifetimes: [u64; 3],
}

impl Size {
    fn from_env() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        if std::env::var("CHAOS").as_deref() == Ok("full") {
            let length = Duration::from_mins(number("MINUTES").unwrap_or(10).max(1));
            let seed = number("SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000));
            return Self { full: true, seed, length, resources: 300, lifetimes: [90, 240, 480] };
        }
        let length = Duration::from_secs(90);
        Self { full: false, seed: number("SEED").unwrap_or(1), length, resources: 60, lifetimes: [60, 90, 120] }
    }
}

fn bin() -> PathBuf {
    if std::env::var_os(ENV).is_some() {
        return ControlPlane::from_env().unwrap().bin();
    }
    binaries(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/hack/controlplane/build"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_keeps_every_promise_while_everything_fails_and_converges_after_it() {
    let size = Size::from_env();
    println!("seed {}, {} s", size.seed, size.length.as_secs());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", size.seed));
    // What an earlier run with this seed has left.
    let _ = std::fs::remove_dir_all(&dir);
    let stage = Stage::new(&bin(), dir.clone(), size.resources, &size.lifetimes).await;
    let observer = Observer::start(&stage.env, stage.restored.subscribe());
    let monitored = async {
        converge(&stage, "the fleet is created").await;
        // From now on some token is renewed all the time.
        sleep(Duration::from_secs(size.lifetimes[0]) / 2).await;
        let started = now();
        disturb(&stage, &size).await;
        converge(&stage, "after the last fault").await;
        started
    };
    let started = tokio::select! {
        started = monitored => Some(started),
        // Its processes are in groups of their own.
        _ = tokio::signal::ctrl_c() => None,
        () = stage.monitor() => unreachable!("it never ends"),
    };
    let Some(started) = started else {
        stage.end().await;
        panic!("interrupted");
    };
    let run = run(&stage, &observer);
    let findings = [
        ("requests", check_requests(&run)),
        ("tokens", check_renewals(&run)),
        ("calls", check_calls(&run)),
        ("limits", check_limits(&run)),
    ];
    report(&stage, &run, &findings, started);
    let problems = problems(&stage, &findings);
    stage.end().await;
    assert!(problems.is_empty(), "\n{}\n{}", problems.join("\n"), repeat(&size, &dir));
    let _ = std::fs::remove_dir_all(&dir);
}

/// Injects the faults of the plan, group by group.
async fn disturb(stage: &Stage, size: &Size) {
    let mut chosen = faults::Chosen::new(&mut Rng::with_seed(size.seed), stage.size);
    let groups = plan::plan(size.seed, size.length, !size.full);
    let last = groups.len() - 1;
    for (n, group) in groups.iter().enumerate() {
        let faults: Vec<_> = group.faults.iter().map(|planned| (planned, chosen.take(planned.fault))).collect();
        println!("{:?}", group.faults);
        join_all(faults.iter().map(|(planned, these)| faults::inject(stage, planned, these))).await;
        if n < last {
            sleep(group.calm).await;
        }
    }
}

/// Waits until everything has converged.
async fn converge(stage: &Stage, when: &str) {
    let started = Instant::now();
    while let Some(unsettled) = stage.unsettled().await {
        if started.elapsed() > CONVERGE {
            return stage.problem(format!("not converged within {CONVERGE:?}, {when}: {unsettled}"));
        }
        // The interval between two observations.
        sleep(Duration::from_secs(1)).await;
    }
    println!("converged after {:?}, {when}", started.elapsed());
}

/// Prints what was done and how much was checked.
fn report(stage: &Stage, run: &Run, findings: &[(&str, Findings)], started: Ms) {
    for window in &run.windows {
        let second = |at: Ms| (at - started) / 1000;
        println!("{:4} s to {:4} s: {:?} {:?}", second(window.from), second(window.to), window.fault, window.only);
    }
    for (what, Findings { strict, lenient, .. }) in findings {
        println!("{what}: {strict} judged strictly, {lenient} with the room that a fault or a change gives");
    }
    println!(
        "{} lists while no watch could start, {} calls that were told to wait",
        run.lists.len(),
        run.limited.len()
    );
    let published: usize = run.published.values().map(Vec::len).sum();
    let peak = stage.record.lock().unwrap().peak / MIB;
    println!("{} requests, {published} tokens published, peak {peak} MiB", run.sent.len());
}

/// Returns everything that must not have happened.
fn problems(stage: &Stage, findings: &[(&str, Findings)]) -> Vec<String> {
    let mut problems = stage.record.lock().unwrap().problems.clone();
    for (_, findings) in findings {
        problems.extend(findings.violations.iter().take(10).cloned());
        problems.extend((findings.violations.len() > 10).then(|| format!("{} of these", findings.violations.len())));
    }
    let peak = stage.record.lock().unwrap().peak;
    problems.extend((peak >= MEMORY_LIMIT).then(|| format!("{} MiB of memory", peak / MIB)));
    let log = stage.env.log();
    problems.extend(log.lines().filter(|line| leaked(line).is_some()).take(1).map(|line| format!("a secret: {line}")));
    problems.extend((!log.contains("starting")).then(|| "the log is not of operators".to_owned()));
    problems
}

fn repeat(size: &Size, dir: &Path) -> String {
    let minutes = size.length.as_secs() / 60;
    let command =
        if size.full { format!("MINUTES={minutes} make chaos") } else { "cargo test --test chaos".to_owned() };
    format!("the logs are in {}\nrepeat with: SEED={} {command}", dir.display(), size.seed)
}
