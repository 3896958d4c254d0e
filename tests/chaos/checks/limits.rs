//! How often the operators call the API server for what is no reason to, or while it asks them to wait.

use std::collections::BTreeMap;

use super::{Call, Findings, Ms, Run, Window};
use crate::plan::{Fault, Subject};

/// The seconds that calls are told in a header to wait.
pub const LIMITED_SECONDS: u32 = 8;
/// A read for a reconcile and one for a verification may be of the same object. Without the header, a call is made again
/// after 2 s and after 4 s.
const MAX_WHILE_LIMITED: usize = 2;
/// By two replicas whose lists back off from 0.8 s on, doubling, and are at least half of that apart.
const MAX_LISTS: usize = 14;
/// The touches of a target in 10 minutes that each cost a read. Then it is read at most once in this time.
const READ_FREELY: Ms = 3;
const READ_SPACING: Ms = 10_000;
/// Reads for a verification, a renewal, and after a conflict with the other writer.
const OTHER_READS: Ms = 4;
/// Status writes for a renewal, a failure and a verification.
const MAX_STATUS_WRITES: usize = 4;
const SECOND: Ms = 1_000;

/// Checks that the operators wait where they are asked to, that lists back off, and that what others write costs little.
pub fn check_limits(run: &Run) -> Findings {
    let mut findings = Findings::default();
    check_waits(run, &mut findings);
    check_lists(run, &mut findings);
    check_gateway(run, &mut findings);
    for window in run.windows.iter().filter(|window| window.fault == Fault::SecretsAnnotated) {
        check_annotated(run, window, &mut findings);
    }
    findings
}

fn by_what(calls: &[Call]) -> BTreeMap<&str, Vec<Ms>> {
    let mut by_call: BTreeMap<&str, Vec<Ms>> = BTreeMap::new();
    for call in calls {
        by_call.entry(&call.what).or_default().push(call.at);
    }
    by_call
}

/// Whether another process may have taken over.
fn changes_leader(run: &Run, from: Ms, to: Ms) -> bool {
    run.windows_of(&[Subject::Replicas, Subject::ControlPlane]).any(|w| w.from <= to && from <= w.to + 20 * SECOND)
        || run.unsteady.iter().any(|at| at - 20 * SECOND <= to && from <= *at)
}

/// Whether another writer changed the credentials or the target meanwhile, which may end a wait.
fn annotated(run: &Run, what: &str, from: Ms, to: Ms) -> bool {
    let mut windows = run.windows.iter().filter(|window| window.fault == Fault::SecretsAnnotated);
    let is_about = |n: &usize| {
        let ends = [format!("/r{n}/status"), format!("/r{n}-token"), format!("/r{n}-oauth")];
        ends.iter().any(|end| what.ends_with(end))
    };
    windows.any(|window| window.from <= to && from <= window.to && window.only.iter().any(is_about))
}

/// Checks that no call is repeated before the time in the header has passed.
fn check_waits(run: &Run, findings: &mut Findings) {
    for (what, times) in by_what(&run.limited) {
        for most in times.windows(MAX_WHILE_LIMITED + 1) {
            let (first, last) = (most[0], most[MAX_WHILE_LIMITED]);
            if changes_leader(run, first, last) || annotated(run, what, first, last) {
                findings.lenient += 1;
                continue;
            }
            findings.strict += 1;
            if last - first < Ms::from(LIMITED_SECONDS) * SECOND - SECOND / 2 {
                findings
                    .violations
                    .push(format!("not {LIMITED_SECONDS} s after it was told to wait at {first}: {what}"));
            }
        }
    }
}

/// Checks that lists are not repeated at once while no watch can start.
fn check_lists(run: &Run, findings: &mut Findings) {
    for window in run.windows.iter().filter(|window| window.fault == Fault::WatchesTooOld) {
        let within = |call: &&Call| window.from <= call.at && call.at <= window.to;
        let lists: Vec<Call> = run.lists.iter().filter(within).cloned().collect();
        for (what, times) in by_what(&lists) {
            findings.strict += 1;
            if times.len() > MAX_LISTS {
                findings.violations.push(format!("{} lists within {window:?}: {what}", times.len()));
            }
        }
    }
}

/// Checks that tokens were verified while a gateway refused that: it is what the fault is about.
fn check_gateway(run: &Run, findings: &mut Findings) {
    for window in run.windows.iter().filter(|window| window.fault == Fault::GatewayUnauthorized) {
        let verified = run.verified.iter().filter(|at| window.from <= **at && **at <= window.to).count();
        findings.strict += verified;
        if verified == 0 && !changes_leader(run, window.from, window.to) {
            findings.violations.push(format!("no token was verified within {window:?}"));
        }
    }
}

/// Checks that annotations of others cost a bounded number of reads, and no status write.
fn check_annotated(run: &Run, window: &Window, findings: &mut Findings) {
    let length = window.to - window.from;
    let reads = usize::try_from(READ_FREELY + length / READ_SPACING + 1 + OTHER_READS).unwrap_or(usize::MAX);
    // The other replica has no record of earlier touches.
    let processes = 1 + usize::from(changes_leader(run, window.from, window.to));
    let count = |verb: &str, end: &str| {
        let within = |call: &&Call| window.from <= call.at && call.at <= window.to + SECOND;
        let these = |call: &&Call| call.what.starts_with(verb) && call.what.ends_with(end);
        run.calls.iter().filter(within).filter(these).count()
    };
    for n in &window.only {
        *(if processes == 1 { &mut findings.strict } else { &mut findings.lenient }) += 1;
        for (verb, end, limit) in
            [("get", format!("/r{n}-token"), reads), ("patch", format!("/r{n}/status"), MAX_STATUS_WRITES)]
        {
            let found = count(verb, &end);
            if found > limit * processes {
                let limit = limit * processes;
                findings.violations.push(format!("{found} calls, not {limit}, within {window:?}: {verb} {end}"));
            }
        }
    }
}
