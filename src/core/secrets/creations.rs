//! Which Secrets the API server let the operator create lately, by namespace.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::api::DeletionPolicy;
use crate::core::spec::{Plan, TargetPlan};

/// How long a creation shows that another one alike is accepted.
const VALID_SECONDS: i64 = 60;
/// The creations that are remembered.
const MAX_CREATIONS: usize = 1000;

/// The creations of the last minute. Those are alike that have the same labels, annotations, keys and kind of owner: what a
/// policy or a webhook can tell apart, except for names and values.
#[derive(Default)]
pub struct Creations(HashMap<(String, u64), Timestamp>);

impl Creations {
    /// Records that the target of a plan was created.
    pub fn accepted(&mut self, namespace: &str, plan: &Plan, now: Timestamp) {
        if self.0.len() >= MAX_CREATIONS {
            self.0.retain(|_, at| is_valid(*at, now));
        }
        if self.0.len() < MAX_CREATIONS {
            self.0.insert((namespace.to_owned(), shape(plan)), now);
        }
    }

    /// Records that the creation of a target was refused: what refuses it may refuse all others in the namespace.
    pub fn refused(&mut self, namespace: &str) {
        self.0.retain(|(of, _), _| of != namespace);
    }

    /// Whether one alike was created within the last minute, and none was refused since.
    #[must_use]
    pub fn has_alike(&self, namespace: &str, plan: &Plan, now: Timestamp) -> bool {
        self.0.get(&(namespace.to_owned(), shape(plan))).is_some_and(|at| is_valid(*at, now))
    }
}

/// A time in the future is of a clock that was ahead.
fn is_valid(at: Timestamp, now: Timestamp) -> bool {
    (0..VALID_SECONDS).contains(&now.duration_since(at).as_secs())
}

fn shape(plan: &Plan) -> u64 {
    let TargetPlan { labels, annotations, formats, data, policy, .. } = &plan.target;
    let mut keys: Vec<&str> =
        data.keys().map(String::as_str).chain(formats.iter().map(|format| format.key())).collect();
    keys.sort_unstable();
    let labels: Vec<&String> = labels.keys().collect();
    let annotations: Vec<&String> = annotations.keys().collect();
    let mut hasher = DefaultHasher::new();
    (labels, annotations, keys, *policy == DeletionPolicy::Delete).hash(&mut hasher);
    hasher.finish()
}
