//! How often the operators repeat a call to the API server.

use std::collections::BTreeMap;

use super::{Findings, Ms, Run};

/// By two replicas, each of which may read an object again after a conflict.
const MAX_PER_SECOND: usize = 6;
const SECOND: Ms = 1_000;

/// Checks that no call is repeated in a loop.
pub fn check_calls(run: &Run) -> Findings {
    let mut by_call: BTreeMap<&str, Vec<Ms>> = BTreeMap::new();
    for call in &run.calls {
        by_call.entry(&call.what).or_default().push(call.at);
    }
    let mut findings = Findings::default();
    for (what, times) in &mut by_call {
        times.sort_unstable();
        findings.strict += times.len();
        let loops = times.windows(MAX_PER_SECOND + 1).find(|most| most[MAX_PER_SECOND] - most[0] < SECOND);
        let loops = loops.and_then(|most| most.first());
        let describe = |at| format!("more than {MAX_PER_SECOND} calls within a second at {at}: {what}");
        findings.violations.extend(loops.map(describe));
    }
    findings
}
