//! What a resource costs the process, in counts that do not depend on the speed of the machine: instructions and
//! allocations for a renewal, and bytes for each resource. Each is compared with what no operator can avoid.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod documents;
mod renewals;

use std::process::Command;

use allocation_counter::measure;
use documents::Documents;
use renewals::Fleet;

/// The bytes that a resource at rest takes, per byte that the API server sends of it.
const BYTES_RATIO: f64 = 1.05;
/// The allocations of a renewal, per allocation for decoding and encoding its documents once.
const ALLOCATIONS_RATIO: f64 = 1.44;
/// The instructions of a renewal, per instruction for decoding and encoding its documents once.
const INSTRUCTIONS_RATIO: f64 = 2.06;
const COUNT: usize = 200;
/// So many leave as much room in the maps as 10,000.
const RESOURCES: usize = 625;
const COUNTED: u64 = RESOURCES as u64;

fn ratio(of: u64, to: u64) -> f64 {
    u32::try_from(of).map(f64::from).unwrap() / u32::try_from(to).map(f64::from).unwrap()
}

fn documents(count: usize) -> Vec<Documents> {
    (0..count).map(Documents::new).collect()
}

#[test]
fn a_resource_takes_little_more_memory_than_its_text() {
    let documents = documents(RESOURCES);
    let (mut created, mut restarted) = (Fleet::default(), Fleet::default());
    let after_creation = measure(|| {
        created = Fleet::new(&documents);
        created.fill();
    });
    let after_restart = measure(|| restarted = created.restarted());
    // Without its own copy of the documents.
    let copy = measure(|| std::mem::forget(documents.clone()));
    let sent = (0..RESOURCES).map(|n| created.sent(n) as u64).sum();
    for (when, kept) in [("a creation", after_creation), ("a restart", after_restart)] {
        let bytes = u64::try_from(kept.bytes_current - copy.bytes_current).unwrap();
        println!("{} bytes kept per resource after {when}, {} sent", bytes / COUNTED, sent / COUNTED);
        assert!(ratio(bytes, sent) <= BYTES_RATIO, "{:.2} after {when}", ratio(bytes, sent));
    }
}

#[test]
fn a_renewal_allocates_little_more_often_than_its_documents_require() {
    let documents = documents(COUNT);
    let mut fleet = Fleet::new(&documents);
    (0..COUNT).for_each(|n| {
        fleet.renew(n);
    });
    let renewals = measure(|| {
        (0..COUNT).for_each(|n| {
            fleet.renew(n);
        });
    })
    .count_total;
    let required = measure(|| documents.iter().for_each(Documents::pass)).count_total;
    println!("{} allocations per renewal, {} for its documents", renewals / COUNT as u64, required / COUNT as u64);
    assert!(ratio(renewals, required) <= ALLOCATIONS_RATIO, "{:.2}", ratio(renewals, required));
}

/// Returns how many instructions a workload of this file executes, counted by valgrind; `None` without it.
fn instructions(workload: &str, count: usize) -> Option<u64> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", workload, "--test-threads=1"])
        .env("COUNT", count.to_string())
        .output()
        .ok()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stderr).unwrap();
    let counted = text.lines().find_map(|line| line.split("Collected :").nth(1)).expect("valgrind prints the count");
    Some(counted.trim().parse().unwrap())
}

#[test]
fn a_renewal_takes_little_more_instructions_than_its_documents_require() {
    // The difference leaves out the start.
    let each = |workload| {
        let (few, many) = (instructions(workload, 10)?, instructions(workload, 60)?);
        Some((many - few) / 50)
    };
    let Some((renewal, required)) = each("workload_renewals").zip(each("workload_documents")) else {
        println!("skipped: install valgrind to count instructions");
        return;
    };
    println!("{renewal} instructions per renewal, {required} for its documents");
    assert!(ratio(renewal, required) <= INSTRUCTIONS_RATIO, "{:.2}", ratio(renewal, required));
}

fn count() -> usize {
    std::env::var("COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[test]
#[ignore = "counted by the test of instructions"]
fn workload_renewals() {
    let mut fleet = Fleet::new(&documents(1));
    (0..count()).for_each(|_| {
        fleet.renew(0);
    });
}

#[test]
#[ignore = "counted by the test of instructions"]
fn workload_documents() {
    let documents = Documents::new(0);
    (0..count()).for_each(|_| documents.pass());
}
