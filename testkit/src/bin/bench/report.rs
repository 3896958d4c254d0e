//! The measurements of one run, printed as they are made and written as JSON.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use testkit::{Error, doing};

use crate::calls::{Counts, single};
use crate::process::Sample;

struct Row {
    /// A name that stays the same, for the page and its plots.
    id: String,
    value: f64,
    unit: &'static str,
}

#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    /// The requests of a phase, by verb and resource.
    calls: Map<String, Value>,
    resources: usize,
    /// Begins the name of each measurement.
    prefix: &'static str,
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn float(count: u64) -> f64 {
    count as f64
}

pub fn count(count: usize) -> f64 {
    float(u64::try_from(count).unwrap_or(u64::MAX))
}

fn quantile(ascending: &[Duration], percent: usize) -> f64 {
    let last = ascending.len().saturating_sub(1);
    ascending.get((ascending.len() * percent / 100).min(last)).copied().unwrap_or_default().as_secs_f64()
}

/// Returns the load average of the last minute.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

impl Report {
    pub fn new(resources: usize, prefix: &'static str) -> Self {
        Self { resources, prefix, ..Self::default() }
    }

    /// Adds a measurement, and prints it at once, so that a long run can be followed.
    pub fn add(&mut self, id: impl Into<String>, value: f64, unit: &'static str) {
        let id = format!("{}{}", self.prefix, id.into());
        let _ = writeln!(std::io::stderr(), "bench: {id}: {value:.3} {unit} (load average {})", load());
        self.rows.push(Row { id, value, unit });
    }

    pub fn seconds(&mut self, id: &str, value: Duration) {
        self.add(id, value.as_secs_f64(), "s");
    }

    pub fn waits(&mut self, id: &str, ascending: &[Duration]) {
        self.add(format!("{id}_p50"), quantile(ascending, 50) * 1000.0, "ms");
        self.add(format!("{id}_p99"), quantile(ascending, 99) * 1000.0, "ms");
    }

    pub fn memory(&mut self, id: &str, sample: &Sample) {
        self.add(id, float(sample.resident) / 1024.0, "MiB");
        self.add(format!("{id}_peak"), float(sample.peak) / 1024.0, "MiB");
    }

    pub fn cpu(&mut self, id: &str, each: usize, before: &Sample, after: &Sample) {
        self.add(id, (after.cpu - before.cpu) * 1000.0 / count(each), "ms");
    }

    /// Adds the requests of a phase per resource.
    pub fn requests(&mut self, id: &str, each: usize, calls: &Counts) {
        let total: usize = single(calls).map(|(_, times)| times).sum();
        self.add(id, count(total) / count(each.max(1)), "requests");
        self.calls.insert(format!("{}{id}", self.prefix), json!(calls));
    }

    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let rows: Map<String, Value> =
            self.rows.iter().map(|row| (row.id.clone(), json!({"value": row.value, "unit": row.unit}))).collect();
        let text = json!({
            "resources": self.resources, "version": env!("CARGO_PKG_VERSION"), "date": jiff::Zoned::now().date().to_string(),
            "cores": std::thread::available_parallelism().map_or(0, usize::from), "loadAtEnd": load(),
            "measurements": rows, "requests": self.calls,
        });
        let text = serde_json::to_string_pretty(&text).map_err(doing("writing JSON"))?;
        std::fs::write(path, text + "\n").map_err(doing(format!("writing {}", path.display())))
    }

    pub fn print(&self) {
        let width = self.rows.iter().map(|row| row.id.len()).max().unwrap_or_default();
        let mut out = std::io::stdout().lock();
        for Row { id, value, unit } in &self.rows {
            let _ = writeln!(out, "{id:width$}  {value:10.3} {unit}");
        }
    }
}
