//! Simulates a fleet over weeks of virtual time: the operator's own decisions, schedules, host limiters and work queue
//! run against simulated portals, a simulated cluster and a clock that is set from time to time.
//!
//! `make simulate` runs it at full size; `SIMULATE=full SEED=7` replays one seed of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may")]

mod checks;
mod exchange;
mod fairness;
mod fleet;
mod history;
mod lifetimes;
mod permits;
mod portal;
mod process;
mod reconciliation;
mod requests;
mod secrets;
mod simulation;
mod statistics;
mod time;
mod users;
mod verification;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fastrand::Rng;

use portal::{Phase, PortalState};
use simulation::{Event, Simulation};
use time::{DAY, HOUR, MINUTE, Ms, SECOND, log_uniform};

struct Size {
    full: bool,
    resources: u32,
    days: Ms,
    seeds: Vec<u64>,
}

impl Size {
    fn from_env() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let full = std::env::var("SIMULATE").is_ok_and(|size| size == "full");
        let (resources, days, seeds) = if full { (10_000, 30, 20) } else { (120, 3, 2) };
        let seeds = number("SEEDS").unwrap_or(seeds);
        Self {
            full,
            resources: number("RESOURCES").map_or(resources, |n| u32::try_from(n).expect("a fleet")),
            days: number("DAYS").map_or(days, |n| i64::try_from(n).expect("days")),
            seeds: number("SEED").map_or_else(|| (1..=seeds).collect(), |seed| vec![seed]),
        }
    }
}

/// Returns a simulation of a mixed fleet with portals that fail from time to time.
fn mixed(seed: u64, size: &Size) -> Simulation {
    let mut rng = Rng::with_seed(seed);
    let end = size.days * DAY;
    let (mut portals, resources) = fleet::mixed(size.resources, &mut rng);
    for portal in &mut portals {
        portal.phases = portal::random_phases(&mut rng, end);
    }
    let mut simulation = Simulation::new(seed, rng, end, portals, resources);
    simulation.every_reconcile = !size.full;
    for id in 0..size.resources {
        let at = simulation.rng.i64(0..MINUTE);
        simulation.at(at, Event::Create(id));
    }
    simulation.exempt_until = MINUTE + simulation.portals.iter().map(portal::Portal::drain_time).max().unwrap_or(0);
    simulation.schedule_first_actions();
    schedule_disruptions(&mut simulation);
    simulation.schedule_rejections();
    simulation
}

/// Schedules restarts, API server outages and changes of the clock.
fn schedule_disruptions(simulation: &mut Simulation) {
    let mut at = 3 * HOUR;
    while at < simulation.end {
        at += log_uniform(&mut simulation.rng, HOUR, 40 * HOUR);
        match simulation.rng.u8(0..7) {
            0 | 1 => {
                simulation.at(at, Event::Stop);
                at += log_uniform(&mut simulation.rng, SECOND, 10 * MINUTE);
                simulation.at(at, Event::Start);
            }
            2 => {
                simulation.at(at, Event::Api(false));
                at += log_uniform(&mut simulation.rng, SECOND, 20 * MINUTE);
                simulation.at(at, Event::Api(true));
            }
            3 => simulation.at(at, Event::TakeOver),
            4 | 5 => {
                let by = log_uniform(&mut simulation.rng, 50, 5 * SECOND);
                let by = if simulation.rng.bool() { by } else { -by };
                simulation.at(at, Event::SetClock(by));
            }
            _ => {
                let by = log_uniform(&mut simulation.rng, MINUTE, 5 * HOUR);
                let by = if simulation.rng.bool() { by } else { -by };
                simulation.at(at, Event::SetClock(by));
                at += log_uniform(&mut simulation.rng, MINUTE, 12 * HOUR);
                simulation.at(at, Event::SetClock(-by));
            }
        }
    }
}

/// Returns a simulation of resources with equal lifetimes that are created at once, then an outage of six hours, and
/// later three hours of 429.
fn uniform(seed: u64, size: &Size) -> Simulation {
    let mut rng = Rng::with_seed(seed);
    let count = if size.full { 10_000 } else { 400 };
    let (mut portals, resources) = fleet::uniform(count, &mut rng);
    let (outage, rate_limited_requests) = (PortalState::Unreachable { slow: true }, PortalState::Limited(Some(90)));
    portals[0].phases = vec![
        Phase { from: OUTAGE - 6 * HOUR, until: OUTAGE, state: outage },
        Phase { from: STORM, until: STORM + 3 * HOUR, state: rate_limited_requests },
    ];
    let mut simulation = Simulation::new(seed, rng, STORM + 5 * HOUR, portals, resources);
    simulation.exempt_until = simulation.portals[0].drain_time();
    for id in 0..count {
        simulation.at(0, Event::Create(id));
    }
    simulation
}

const LIFETIME: Ms = 2 * HOUR;
/// When the outage ends.
const OUTAGE: Ms = 30 * HOUR;
/// When the phase of 429 begins.
const STORM: Ms = OUTAGE + 11 * LIFETIME;

/// Checks the peaks after a burst: once every resource had a permit, no minute of the two lifetimes after the burst has
/// more than four times the requests of the mean minute of the second, and ten lifetimes later none has more than twice
/// the mean. A small fleet is counted in longer spans, because its minutes have too few requests to compare.
fn check_spread(simulation: &mut Simulation, full: bool) -> String {
    let bin = if full { MINUTE } else { 5 * MINUTE };
    let settled = simulation.portals[0].drain_time() + 8 * MINUTE;
    let mut lines = Vec::new();
    for (what, from) in [("creation", 0), ("outage", OUTAGE)] {
        let (_, mean) = simulation.statistics.peak_and_mean(from + LIFETIME, from + 2 * LIFETIME, bin);
        let (peak, _) = simulation.statistics.peak_and_mean(from + settled, from + 2 * LIFETIME, bin);
        let (late_peak, late_mean) =
            simulation.statistics.peak_and_mean(from + 10 * LIFETIME, from + 11 * LIFETIME, bin);
        let (soon, late) = (peak / mean, late_peak / late_mean);
        lines.push(format!("peak to mean after {what} {soon:.2}, ten lifetimes later {late:.2}"));
        if soon > 4.0 || late > 2.0 || soon.is_nan() || late.is_nan() {
            let numbers = format!("{soon:.2} of 4 soon after the {what}, {late:.2} of 2 ten lifetimes later");
            simulation.fail_check("the requests of a fleet are spread", 0, &numbers);
        }
    }
    lines.join("; ")
}

/// Runs every seed, two in parallel; fails with all failures and with the commands that repeat them.
fn run(
    size: &Size,
    test: &str,
    simulate: impl Fn(u64) -> Simulation + Sync,
    check: impl Fn(&mut Simulation) -> String + Sync,
) {
    let next = AtomicUsize::new(0);
    let (lines, failures) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seed) = size.seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let mut simulation = simulate(*seed);
                    simulation.run();
                    let more = check(&mut simulation);
                    let statistics = simulation.statistics.line(&simulation.resources, simulation.end);
                    let line = format!("seed {seed:3}: {statistics}, {:.1} s  {more}", started.elapsed().as_secs_f64());
                    println!("{line}");
                    lines.lock().unwrap().insert(*seed, line);
                    if !simulation.failures.0.is_empty() {
                        let size = if size.full { "SIMULATE=full " } else { "" };
                        let command = format!("SEED={seed} cargo test --test simulation {test} -- --nocapture");
                        let mut failures = failures.lock().unwrap();
                        failures.append(&mut simulation.failures.0);
                        failures.push(format!("  repeat with: {size}{command}"));
                    }
                }
            });
        }
    });
    let lines: Vec<String> = lines.into_inner().unwrap().into_values().collect();
    println!("\n{test}\n{}", lines.join("\n"));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn a_mixed_fleet_passes_every_check_over_weeks() {
    let size = Size::from_env();
    run(&size, "a_mixed_fleet", |seed| mixed(seed, &size), Simulation::check_count_of_checks);
}

#[test]
fn a_uniform_fleet_spreads_its_requests_after_a_burst() {
    let size = Size::from_env();
    run(&size, "a_uniform_fleet", |seed| uniform(seed, &size), |simulation| check_spread(simulation, size.full));
}
