//! What a run prints: a title per step, which says what the step proves, and its results.

use std::io::Write;
use std::time::Instant;

pub struct Report {
    total: usize,
    number: usize,
    started: Instant,
}

impl Report {
    pub fn new(total: usize) -> Self {
        Self { total, number: 0, started: Instant::now() }
    }

    pub fn step(&mut self, title: &str, proves: &str) {
        self.number += 1;
        self.started = Instant::now();
        line(&format!("\n== {}/{} {title}: {proves}", self.number, self.total));
    }

    /// Prints the result of a step, and how long the step took.
    pub fn done(&self, result: &str) {
        line(&format!("   {result}"));
        line(&format!("   {:.1} s", self.started.elapsed().as_secs_f64()));
    }
}

pub fn line(text: &str) {
    // The caller may have closed the output.
    let _ = writeln!(std::io::stdout(), "{text}");
}
