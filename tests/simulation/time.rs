//! Virtual time: true milliseconds since the start, and the operator's clock, which may be wrong.

use fastrand::Rng;
use jiff::Timestamp;

/// True time since the start, or a duration, in milliseconds.
pub type Ms = i64;

pub const SECOND: Ms = 1000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;
pub const DAY: Ms = 24 * HOUR;

/// The time of the operator's clock at the start, in milliseconds since 1970.
const START: Ms = 1_800_000_000_000;

/// The true time, and how far the operator's clock is ahead of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    pub now: Ms,
    pub offset: Ms,
}

impl Clock {
    /// Returns the time of the operator's clock.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(START + self.now + self.offset).expect("within centuries")
    }

    /// Returns the time since an earlier moment, by true time or by the operator's clock, whichever is longer.
    pub fn since(self, earlier: Self) -> Ms {
        let passed = self.now - earlier.now;
        passed.max(passed + self.offset - earlier.offset)
    }

    /// Returns the true time at which the operator's clock will reach a timestamp, if it is not set.
    pub fn time_of(self, timestamp: Timestamp) -> Ms {
        let nanos = timestamp.as_nanosecond();
        let millis = nanos.div_euclid(1_000_000) + i128::from(nanos.rem_euclid(1_000_000) > 0);
        i64::try_from(millis).expect("within centuries").saturating_sub(START + self.offset)
    }
}

/// Formats a time as days and a time of day.
pub fn format_time(at: Ms) -> String {
    format!("day {} {:02}:{:02}:{:06.3}", at / DAY, at / HOUR % 24, at / MINUTE % 60, seconds(at % MINUTE))
}

/// Converts milliseconds to seconds.
#[allow(clippy::cast_precision_loss, reason = "spans are far below 2^53")]
pub fn seconds(span: Ms) -> f64 {
    span as f64 / 1000.0
}

/// Returns a random number between two bounds, log-uniformly distributed.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "spans are far below 2^53")]
pub fn log_uniform(rng: &mut Rng, from: i64, to: i64) -> i64 {
    ((from as f64) * ((to as f64) / (from as f64)).powf(rng.f64())) as i64
}
