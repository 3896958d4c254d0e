//! When a published token must have a successor.

use super::{Findings, Ms, Publication, Run};
use crate::plan::Fault;

/// How late a renewal may be, and how long nothing may be wrong before it.
const TOLERANCE: Ms = 10_000;
/// A deleted or damaged token is replaced at least 5 s after the last request.
const REPLACED: Ms = 10_000;
/// Writes are recorded in whole seconds.
const SECOND: Ms = 1_000;
/// The minimum spacing of requests.
const FLOOR: Ms = 30_000;

/// Checks that each token has a successor when half of its lifetime has passed, which is the latest renewal time. Faults
/// give more time until they have settled.
pub fn check_renewals(run: &Run) -> Findings {
    let mut findings = Findings::default();
    for (resource, published) in &run.published {
        for (at, token) in published.iter().enumerate() {
            let successor = published.get(at + 1).map_or(run.ended, |next| next.at);
            let renewal = token.issued + (run.lifetimes[*resource] / 2).max(FLOOR);
            let destroyed = destroyed(run, *resource, token, successor);
            let from = destroyed.map_or(renewal, |at| (at + REPLACED).min(renewal));
            let due = due(run, *resource, from);
            if due + TOLERANCE >= run.ended {
                continue;
            }
            *(if due == from { &mut findings.strict } else { &mut findings.lenient }) += 1;
            if successor > due + TOLERANCE {
                let late = successor - due;
                let numbers = format!("due {due}, destroyed {destroyed:?}, successor {successor}");
                findings.violations.push(format!("r{resource} was renewed {late} ms late: {token:?}, {numbers}"));
            }
        }
    }
    findings
}

/// Returns when another writer destroyed the token, or a restore of etcd took it away.
fn destroyed(run: &Run, resource: usize, token: &Publication, successor: Ms) -> Option<Ms> {
    let touches = run.touches.iter().filter(|touch| touch.resource == resource && touch.destroys);
    let destroyed = touches.map(|touch| touch.at).filter(|at| token.at + SECOND <= *at);
    let restores = run.windows.iter().filter(|window| window.fault == Fault::EtcdRestored);
    let restored = restores.filter(|window| window.from <= token.at && token.at <= window.to).map(|window| window.to);
    destroyed.chain(restored).filter(|at| *at < successor).min()
}

/// Returns from when on the successor must be published: from the start, or when all faults until then have settled.
fn due(run: &Run, resource: usize, from: Ms) -> Ms {
    let mut windows: Vec<_> =
        run.windows.iter().filter(|window| window.only.is_empty() || window.only.contains(&resource)).collect();
    windows.sort_by_key(|window| window.from);
    let later = |due: Ms, settled: Ms| if settled < from { due } else { due.max(settled) };
    windows.iter().fold(from, |due, w| if w.from <= due + TOLERANCE { later(due, w.settled()) } else { due })
}
