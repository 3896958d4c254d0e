//! Notices when the wall clock is set.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Clocks that are kept in step by small corrections differ by less.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// Compares the wall clock with the time since boot, which counts while the machine sleeps.
pub struct ClockMonitor {
    wall: Timestamp,
    boot: Duration,
}

fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

impl ClockMonitor {
    pub fn new(wall: Timestamp) -> Self {
        Self { wall, boot: since_boot() }
    }

    /// Returns by how much the wall clock was set since the last call.
    pub fn step(&mut self, wall: Timestamp) -> Option<SignedDuration> {
        self.step_at(wall, since_boot())
    }

    fn step_at(&mut self, wall: Timestamp, boot: Duration) -> Option<SignedDuration> {
        let passed = SignedDuration::try_from(boot.saturating_sub(self.boot)).unwrap_or(SignedDuration::MAX);
        let step = wall.duration_since(self.wall) - passed;
        (self.wall, self.boot) = (wall, boot);
        (step.abs() > TOLERANCE).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_is_noticed_and_passing_time_is_not() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let mut monitor = ClockMonitor { wall: at(1000), boot: Duration::from_secs(50) };
        assert_eq!(monitor.step_at(at(1011), Duration::from_secs(61)), None);
        assert_eq!(monitor.step_at(at(1012), Duration::from_secs(61)), None, "a small correction");
        assert_eq!(monitor.step_at(at(412), Duration::from_secs(62)), Some(SignedDuration::from_secs(-601)));
        assert_eq!(monitor.step_at(at(4013), Duration::from_secs(63)), Some(SignedDuration::from_secs(3600)));
        assert_eq!(monitor.step_at(at(9013), Duration::from_secs(5063)), None, "a machine that slept");
    }
}
