//! Virtual time: true milliseconds since the start, and the operator's clock, which may be off.

use fastrand::Rng;
use jiff::Timestamp;

/// True time since the start, or a span of it, in milliseconds.
pub type Ms = i64;

pub const SECOND: Ms = 1000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;
pub const DAY: Ms = 24 * HOUR;

/// What the operator's clock shows at the start, in milliseconds since 1970.
const START: Ms = 1_800_000_000_000;

/// The operator's clock is `offset` ahead of true time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    pub now: Ms,
    pub offset: Ms,
}

impl Clock {
    /// What it shows.
    pub fn shows(self) -> Timestamp {
        Timestamp::from_millisecond(START + self.now + self.offset).expect("within centuries")
    }

    /// When, in true time, it will show this, if nobody sets it.
    pub fn when(self, shown: Timestamp) -> Ms {
        let nanos = shown.as_nanosecond();
        let millis = nanos.div_euclid(1_000_000) + i128::from(nanos.rem_euclid(1_000_000) > 0);
        i64::try_from(millis).expect("within centuries").saturating_sub(START + self.offset)
    }
}

/// Days and a time of day, for people.
pub fn shown(at: Ms) -> String {
    format!("day {} {:02}:{:02}:{:06.3}", at / DAY, at / HOUR % 24, at / MINUTE % 60, seconds(at % MINUTE))
}

/// Milliseconds as seconds.
#[allow(clippy::cast_precision_loss, reason = "spans are far below 2^53")]
pub fn seconds(span: Ms) -> f64 {
    span as f64 / 1000.0
}

/// A number between two, every order of magnitude as likely.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "spans are far below 2^53")]
pub fn log_uniform(rng: &mut Rng, from: i64, to: i64) -> i64 {
    ((from as f64) * ((to as f64) / (from as f64)).powf(rng.f64())) as i64
}
