//! Counts and figures of a run.

use crate::fleet::{Resource, Role};
use crate::time::{DAY, MINUTE, Ms, seconds};

/// Counts of one run.
pub struct Statistics {
    pub reconciles: u64,
    pub status_writes: u64,
    /// Requests in each minute.
    pub minutes: Vec<u32>,
    /// The shortest remaining lifetime at which a token was replaced, for tokens of ten minutes or more, in
    /// milliseconds.
    pub least_left: Option<Ms>,
    /// The same for shorter tokens, as a share of their lifetime.
    pub least_share: f64,
}

impl Statistics {
    /// Returns empty counts for a run until `end`.
    pub fn new(end: Ms) -> Self {
        let minutes = usize::try_from(end / MINUTE + 1).expect("a run is not endless");
        Self { reconciles: 0, status_writes: 0, minutes: vec![0; minutes], least_left: None, least_share: 1.0 }
    }

    /// Counts a request.
    pub fn request(&mut self, now: Ms) {
        if let Some(minute) = usize::try_from(now / MINUTE).ok().and_then(|at| self.minutes.get_mut(at)) {
            *minute += 1;
        }
    }

    /// Records the remaining lifetime of a token that was replaced in time.
    pub fn renewed(&mut self, left: Ms, lifetime: Ms) {
        if lifetime >= 10 * MINUTE {
            self.least_left = Some(self.least_left.map_or(left, |least| least.min(left)));
        } else {
            self.least_share = self.least_share.min(seconds(left) / seconds(lifetime));
        }
    }

    /// Returns the peak and the mean number of requests per bin in a time span.
    pub fn peak_and_mean(&self, from: Ms, to: Ms, bin: Ms) -> (f64, f64) {
        let at = |time: Ms| usize::try_from(time / MINUTE).unwrap_or(0).min(self.minutes.len());
        let span = &self.minutes[at(from)..at(to)];
        let width = usize::try_from(bin / MINUTE).unwrap_or(1);
        let bins: Vec<u32> = span.chunks_exact(width).map(|bin| bin.iter().sum()).collect();
        let count = f64::from(u32::try_from(bins.len()).unwrap_or(u32::MAX).max(1));
        let peak = f64::from(bins.iter().copied().max().unwrap_or(0));
        (peak, bins.iter().copied().map(f64::from).sum::<f64>() / count)
    }

    /// Returns the figures in one line.
    pub fn line(&self, resources: &[Resource], end: Ms) -> String {
        let days = seconds(end) / seconds(DAY);
        let mut a_day: Vec<f64> = resources.iter().map(|r| f64::from(r.history.requests) / days).collect();
        a_day.sort_by(f64::total_cmp);
        let most = resources.iter().map(|r| r.history.most_requests_a_day).max().unwrap_or(0);
        let rejected = |from_start: bool| {
            let of = resources.iter().filter(|r| (r.role == Role::Rejected) == from_start);
            of.map(|r| r.history.most_rejections).max().unwrap_or(0)
        };
        let replaced = resources.iter().map(|r| r.history.most_replacements).max().unwrap_or(0);
        let (peak, mean) = self.peak_and_mean(4 * 60 * MINUTE, end, MINUTE);
        format!(
            "requests a day: median {:.1}, most {most}; least lifetime left {:.1} s, {:.1} %; peak to mean {:.1}; at most {} rejections a day, \
             {} where the inputs worked before; at most {replaced} replacements a day; {} reconciles, {} status writes",
            a_day[a_day.len() / 2],
            self.least_left.map_or(f64::NAN, seconds),
            self.least_share * 100.0,
            peak / mean,
            rejected(true),
            rejected(false),
            self.reconciles,
            self.status_writes,
        )
    }
}
