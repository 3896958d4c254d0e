//! A table of measurements, with the limits that the documentation states.

use std::io::Write;
use std::time::Duration;

use crate::calls::Counts;
use crate::process::Sample;

const IDLE_KIB: f64 = 15.0 * 1024.0;
const KIB_PER_RESOURCE: f64 = 7.0;
/// Memory for objects that no resource names is temporary, and the allocator rounds.
const FOREIGN_KIB: f64 = 4.0 * 1024.0;
const CREATED: Duration = Duration::from_secs(2);
const ROTATED: Duration = Duration::from_secs(5);

struct Row {
    what: String,
    measured: String,
    /// The limit and whether it was met; `None` if there is no limit.
    bound: Option<(String, bool)>,
}

#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    idle: f64,
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

fn count(count: usize) -> f64 {
    float(u64::try_from(count).unwrap_or(u64::MAX))
}

fn mib(kib: f64) -> String {
    format!("{:.1} MiB", kib / 1024.0)
}

fn quantile(ascending: &[Duration], percent: usize) -> Duration {
    let last = ascending.len().saturating_sub(1);
    ascending.get((ascending.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

fn times(waits: &[Duration]) -> String {
    let [half, most, all] = [50, 99, 100].map(|percent| quantile(waits, percent).as_secs_f64());
    format!("p50 {half:.2} s, p99 {most:.2} s, longest {all:.2} s")
}

/// Returns the load average of the last minute.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

impl Report {
    fn report(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.add(what.into(), measured.into(), None);
    }

    fn check(&mut self, what: impl Into<String>, measured: impl Into<String>, bound: impl Into<String>, met: bool) {
        self.add(what.into(), measured.into(), Some((bound.into(), met)));
    }

    /// Prints each row at once, so that a long run can be followed.
    fn add(&mut self, what: String, measured: String, bound: Option<(String, bool)>) {
        let _ = writeln!(std::io::stderr(), "load: {what}: {measured} (load average {})", load());
        self.rows.push(Row { what, measured, bound });
    }

    fn memory(&mut self, what: impl Into<String>, sample: &Sample, bound: Option<f64>) {
        let (resident, what) = (float(sample.resident), what.into());
        let of = format!("{}, {} of it anonymous", mib(resident), mib(float(sample.anonymous)));
        match bound {
            Some(bound) => self.check(what.clone(), of, format!("<= {}", mib(bound)), resident <= bound),
            None => self.report(what.clone(), of),
        }
        self.report(format!("{what}, peak"), mib(float(sample.peak)));
    }

    pub fn idle(&mut self, sample: &Sample) {
        self.idle = float(sample.resident);
        self.memory("memory, no resources", sample, Some(IDLE_KIB));
    }

    pub fn foreign(&mut self, foreign: usize, sample: &Sample) {
        let bound = self.idle + FOREIGN_KIB;
        self.memory(format!("memory, {foreign} foreign objects created"), sample, Some(bound));
    }

    pub fn foreign_after_restart(&mut self, foreign: usize, sample: &Sample) {
        let bound = self.idle + FOREIGN_KIB;
        self.memory(format!("memory, {foreign} foreign objects listed"), sample, Some(bound));
    }

    pub fn filled(&mut self, size: usize, took: Duration, before: &Sample, after: &Sample, waits: &[Duration]) {
        let rate = count(size) / took.as_secs_f64();
        self.report(format!("{size} created at once"), format!("{:.0} s, {rate:.0} a second", took.as_secs_f64()));
        self.report("created at once, until ready", times(waits));
        self.cpu("created", size, before, after);
    }

    fn cpu(&mut self, what: &str, size: usize, before: &Sample, after: &Sample) {
        let each = (after.cpu - before.cpu) * 1000.0 / count(size);
        self.report(format!("processor time per resource {what}"), format!("{each:.2} ms"));
    }

    pub fn resident(&mut self, size: usize, empty: &Sample, sample: &Sample) {
        self.memory(format!("memory, {size} resources"), sample, Some(IDLE_KIB + KIB_PER_RESOURCE * count(size)));
        let each = (float(sample.resident) - float(empty.resident)) / count(size);
        self.report("memory per resource, beyond no resources", format!("{each:.2} KiB"));
    }

    pub fn scraped(&mut self, size: usize, length: usize, sample: &Sample) {
        self.report("metrics, scraped once", mib(count(length) / 1024.0));
        let bound = IDLE_KIB + KIB_PER_RESOURCE * count(size);
        self.memory(format!("memory, {size} resources, after that"), sample, Some(bound));
        let met = float(sample.peak) <= bound;
        self.check("peak so far", mib(float(sample.peak)), format!("<= {}", mib(bound)), met);
    }

    pub fn created_paced(&mut self, waits: &[Duration]) {
        let met = quantile(waits, 99) < CREATED;
        self.check(format!("{} created, 10 a second, until ready", waits.len()), times(waits), "p99 < 2 s", met);
    }

    pub fn rotated(&mut self, how: &str, size: usize, before: &Sample, after: &Sample, waits: &[Duration]) {
        self.report(format!("{size} credentials changed {how}, until a new token"), times(waits));
        self.cpu("renewed", size, before, after);
    }

    pub fn rotated_paced(&mut self, waits: &[Duration]) {
        let what = format!("{} credentials changed, 10 a second, until a new token", waits.len());
        self.check(what, times(waits), "p99 < 5 s", quantile(waits, 99) < ROTATED);
    }

    pub fn restarted(&mut self, size: usize, ready: Duration, after: &Sample, calls: &Counts, requests: usize) {
        self.report("restart, until ready", format!("{:.2} s", ready.as_secs_f64()));
        self.report("restart, processor time", format!("{:.2} s", after.cpu));
        self.memory(
            format!("memory, {size} resources, after a restart"),
            after,
            Some(IDLE_KIB + KIB_PER_RESOURCE * count(size)),
        );
        let counted: Vec<String> = calls.iter().map(|(call, times)| format!("{times} {call}")).collect();
        let touching = calls.iter().filter(|(call, _)| {
            // Permissions are checked by separate calls.
            !["list ", "watch ", "create selfsubjectaccessreviews"].iter().any(|kind| call.starts_with(kind))
        });
        let touched: usize = touching.map(|(_, times)| times).sum();
        self.report("restart, calls", counted.join(", "));
        self.check("restart, reads and writes of single objects", touched.to_string(), "0", touched == 0);
        self.check("restart, token requests", requests.to_string(), "0", requests == 0);
    }

    /// Prints the table; returns whether every limit was met.
    pub fn print(&self) -> bool {
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
        let mut out = std::io::stdout().lock();
        for Row { what, measured, bound } in &self.rows {
            let judged = bound.as_ref().map(|(bound, met)| format!("  [{bound}: {}]", if *met { "yes" } else { "NO" }));
            let _ = writeln!(out, "{what:width$}  {measured}{}", judged.unwrap_or_default());
        }
        let _ = writeln!(out, "load average at the end: {}", load());
        self.rows.iter().all(|row| row.bound.as_ref().is_none_or(|(_, met)| *met))
    }
}
