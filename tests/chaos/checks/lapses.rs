//! When a published token must have a successor.

use super::{Findings, Ms, Publication, Run};

/// How late the write may be.
const TOLERANCE: Ms = 5_000;
/// A deleted or damaged token is replaced at least 5 s after the last request.
const REPLACED: Ms = 10_000;
/// Writes are recorded in whole seconds.
const SECOND: Ms = 1_000;

/// Checks that each token has a successor at its end. Faults give more time until they have settled.
pub fn check_lapses(run: &Run) -> Findings {
    let mut findings = Findings::default();
    for (resource, published) in &run.published {
        for (at, token) in published.iter().enumerate() {
            let successor = published.get(at + 1).map_or(run.ended, |next| next.at);
            let destroyed = destroyed(run, *resource, token, successor);
            let end = destroyed.map_or(token.expires, |at| at + REPLACED).min(token.expires);
            if end >= run.ended {
                continue;
            }
            let due = due(run, *resource, end);
            if due == end {
                findings.strict += 1;
            } else {
                findings.lenient += 1;
            }
            if successor > due + TOLERANCE {
                let late = successor - due;
                let numbers = format!("due {due}, destroyed {destroyed:?}, successor {successor}");
                findings.violations.push(format!("r{resource} had no token for {late} ms: {token:?}, {numbers}"));
            }
        }
    }
    findings
}

/// Returns when another writer destroyed the token.
fn destroyed(run: &Run, resource: usize, token: &Publication, successor: Ms) -> Option<Ms> {
    let touches = run.touches.iter().filter(|touch| touch.resource == resource && touch.destroys);
    touches.map(|touch| touch.at).filter(|at| token.at + SECOND <= *at && *at < successor).min()
}

/// Returns until when the successor must be published: at the end of the token, or when the faults until then have settled.
fn due(run: &Run, resource: usize, end: Ms) -> Ms {
    let mut windows: Vec<_> =
        run.windows.iter().filter(|window| window.only.is_empty() || window.only.contains(&resource)).collect();
    windows.sort_by_key(|window| window.from);
    windows.iter().fold(end, |due, window| if window.from <= due { due.max(window.settled()) } else { due })
}
