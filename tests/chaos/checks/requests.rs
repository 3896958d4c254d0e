//! When token requests may be sent.

use super::{Findings, Ms, Outcome, Run, Sent};
use crate::plan::{Fault, Subject};

/// At once to one host, by one process.
const MAX_IN_FLIGHT: usize = 8;
/// A change may be observed so late.
const NOTICED: Ms = 120_000;
/// After a fault, another process may have taken over so late.
const TAKEN_OVER: Ms = 20_000;
/// The least time between two requests of one resource, whatever happened: a claim ends 2 s before the next begins.
const LEAST: Ms = 1_900;
/// The least pause after a 429.
const PAUSE: Ms = 60_000;
/// Stored times have whole seconds.
const ROUNDING: Ms = 1_100;
/// The doubling of waits is checked up to here, because a change of the reason may slow it down.
const LONGEST_CHECKED: Ms = 32_000;

/// Checks the spacing of the requests of each resource, the pauses after a 429, and how many are in flight.
pub fn check_requests(run: &Run) -> Findings {
    let mut findings = Findings::default();
    for resource in 0..run.lifetimes.len() {
        let sent: Vec<Sent> = run.sent.iter().filter(|sent| sent.resource == resource).copied().collect();
        check_resource(run, &sent, &mut findings);
    }
    check_pauses(run, &mut findings);
    check_in_flight(run, &mut findings);
    findings
}

fn check_resource(run: &Run, sent: &[Sent], findings: &mut Findings) {
    let mut failures = 0;
    for pair in sent.windows(2) {
        let [before, next] = [pair[0], pair[1]];
        let room = Room {
            disturbed: disturbed(run, before.at, next.at),
            touched: touched(run, &before, &next),
            probed: before.outcome == Outcome::Failed && probed(run, before.at, next.at),
        };
        let more = room.disturbed || room.touched || room.probed;
        failures = match before.outcome {
            Outcome::Failed if more => 1,
            Outcome::Failed => failures + 1,
            Outcome::Issued | Outcome::Limited => 0,
        };
        *(if more { &mut findings.lenient } else { &mut findings.strict }) += 1;
        let (floor, since) = (floor(run, &before, failures, &room), spaced_from(&before, &next));
        let what = if next.at < before.ended && !paused(run, before.at, next.at) {
            "two requests at once".to_owned()
        } else if next.at - since < floor {
            format!("{} ms after the last request, not {floor}", next.at - since)
        } else {
            continue;
        };
        findings.violations.push(format!("{what}: r{} at {}: {before:?}, {failures} failures", next.resource, next.at));
    }
}

/// What allows a request earlier.
struct Room {
    disturbed: bool,
    touched: bool,
    probed: bool,
}

/// Returns from when the time to the next request counts.
fn spaced_from(before: &Sent, next: &Sent) -> Ms {
    let overlaps = next.at < before.ended;
    if before.outcome == Outcome::Issued || overlaps { before.at } else { before.ended }
}

/// Returns the least time from the request before to the next.
fn floor(run: &Run, before: &Sent, failures: u32, room: &Room) -> Ms {
    let margin = run.lifetimes[before.resource] / 2;
    match before.outcome {
        _ if room.disturbed => LEAST,
        Outcome::Limited => PAUSE - ROUNDING,
        // The floor of 5 s after a change.
        Outcome::Issued if room.touched => 5_000 - ROUNDING,
        // The margin of short lifetimes is half of them, and the spread at most a quarter of the rest.
        Outcome::Issued => (margin * 3 / 4).max(30_000) - ROUNDING,
        Outcome::Failed if room.touched || room.probed => LEAST,
        Outcome::Failed => (2_000_i64 << failures.saturating_sub(1).min(10)).min(LONGEST_CHECKED) - 100,
    }
}

/// Whether the process may have changed between two times, or could not write what it knows.
fn disturbed(run: &Run, from: Ms, to: Ms) -> bool {
    let subjects = [Subject::ControlPlane, Subject::Connections, Subject::Replicas, Subject::Rules];
    run.windows_of(&subjects).any(|window| window.from <= to && from <= window.to + TAKEN_OVER)
        || run.unsteady.iter().any(|at| at - TAKEN_OVER <= to && from <= at + TAKEN_OVER)
}

/// Whether a change of the resource may have caused the next request.
fn touched(run: &Run, before: &Sent, next: &Sent) -> bool {
    let mut of = run.touches.iter().filter(|touch| touch.resource == next.resource);
    of.any(|touch| before.at - NOTICED < touch.at && touch.at <= next.at)
}

/// Whether the portal failed for so long that it was probed whatever the waits, and that its return ended them.
fn probed(run: &Run, from: Ms, to: Ms) -> bool {
    let mut long = run.windows.iter().filter(|window| window.fault == Fault::TokensEnded);
    long.any(|window| window.from <= to && from <= window.settled())
}

/// Whether a process that was stopped meanwhile could not give up its request.
fn paused(run: &Run, from: Ms, to: Ms) -> bool {
    let mut paused = run.windows.iter().filter(|window| window.fault == Fault::LeaderPaused);
    paused.any(|window| window.from <= to && from <= window.to)
}

/// After a 429, the host gets no request until the pause is over.
fn check_pauses(run: &Run, findings: &mut Findings) {
    for limited in run.sent.iter().filter(|sent| sent.outcome == Outcome::Limited) {
        // The process needs a moment to read the response.
        let [from, to] = [limited.ended + 1_000, limited.ended + PAUSE - ROUNDING];
        if disturbed(run, limited.at, to) {
            continue;
        }
        findings.strict += 1;
        if let Some(sent) = run.sent.iter().find(|sent| from < sent.at && sent.at < to) {
            findings
                .violations
                .push(format!("a request of r{} at {} within the pause of {limited:?}", sent.resource, sent.at));
        }
    }
}

fn check_in_flight(run: &Run, findings: &mut Findings) {
    for sent in &run.sent {
        let at_once = run.sent.iter().filter(|other| other.at <= sent.at && sent.at < other.ended).count();
        // Two processes have a limit each.
        let limit = if disturbed(run, sent.at, sent.at) { 2 * MAX_IN_FLIGHT } else { MAX_IN_FLIGHT };
        if at_once > limit {
            findings.violations.push(format!("{at_once} requests in flight at {}, not {limit}", sent.at));
        }
    }
}
