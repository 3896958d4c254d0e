//! What a probe has shown, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::api::{Cause, Fault};

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Result {
    Ok,
    Failed,
    /// Nothing to do, or not checked.
    Skipped,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(rename = "step")]
    name: &'static str,
    result: Result,
    /// What was seen.
    seen: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<u128>,
}

#[derive(Debug, Serialize)]
struct Failure {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    message: String,
}

/// The steps of a probe, and its outcome.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    portal: Option<String>,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

impl Report {
    pub fn portal(&mut self, url: String) {
        self.portal = Some(url);
    }

    /// Adds a step.
    pub fn add(&mut self, name: &'static str, result: Result, seen: Vec<String>, took: Option<Duration>) {
        self.steps.push(Step { name, result, seen, milliseconds: took.map(|took| took.as_millis()) });
    }

    pub fn issued(&mut self, lifetime_seconds: i64) {
        self.lifetime_seconds = Some(lifetime_seconds);
    }

    /// Records what failed; only the first failure counts.
    pub fn failed(&mut self, fault: &Fault, message: String) {
        let failure = Failure { reason: fault.reason.as_str(), cause: fault.cause.map(Cause::as_str), message };
        self.failure.get_or_insert(failure);
    }

    /// The last line of a probe that failed.
    pub fn failure(&self) -> Option<String> {
        self.failure.as_ref().map(|Failure { reason, cause, message }| {
            let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
            format!("{reason}{cause}: {message}")
        })
    }

    /// One JSON object.
    pub fn json(&self) -> std::result::Result<String, String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(|error| error.to_string())
    }

    /// A table, and what a successful probe got.
    pub fn text(&self, colors: bool) -> String {
        let mut text = String::new();
        let widest = self.steps.iter().map(|step| step.name.len()).max().unwrap_or_default();
        for Step { name, result, seen, milliseconds } in &self.steps {
            let (word, color) = match result {
                Result::Ok => ("ok", 32),
                Result::Failed => ("failed", 31),
                Result::Skipped => ("-", 33),
            };
            let shown = if colors { format!("\u{1b}[{color}m{word:<6}\u{1b}[0m") } else { format!("{word:<6}") };
            let took = milliseconds.map_or_else(String::new, |took| format!(" ({took} ms)"));
            let first = seen.first().map_or("", String::as_str);
            // Nothing can fail that writes into a string.
            let _ = writeln!(text, "{}", format!("{name:<widest$}  {shown}  {first}{took}").trim_end());
            for more in seen.iter().skip(1) {
                let _ = writeln!(text, "{:<widest$}          {more}", "");
            }
        }
        text
    }
}
