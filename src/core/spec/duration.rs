//! Go-style durations, as Kubernetes users write them.

use thiserror::Error;

/// A text that is not a duration from one minute to 336 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write a Go duration between 1m and 336h, such as 90m, 1h30m or 1.5h")]
pub struct DurationError;

const MIN_SECONDS: u128 = 60;
const MAX_SECONDS: u128 = 336 * 3600;
const NANOS: u128 = 1_000_000_000;

/// Seconds of a Go duration (`time.ParseDuration`), bounded to 1m..=336h; a fraction of a second is rounded up.
pub fn parse_duration(text: &str) -> Result<u64, DurationError> {
    let mut rest = text;
    let mut total: u128 = 0;
    if rest.is_empty() || rest.len() > 64 {
        return Err(DurationError);
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c)).ok_or(DurationError)?);
        let (unit, next) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        total = total.checked_add(scaled(number, nanoseconds(unit)?)?).ok_or(DurationError)?;
        rest = next;
    }
    if (MIN_SECONDS * NANOS..=MAX_SECONDS * NANOS).contains(&total) {
        u64::try_from(total.div_ceil(NANOS)).map_err(|_| DurationError)
    } else {
        Err(DurationError)
    }
}

fn nanoseconds(unit: &str) -> Result<u128, DurationError> {
    match unit {
        "h" => Ok(3600 * NANOS),
        "m" => Ok(60 * NANOS),
        "s" => Ok(NANOS),
        "ms" => Ok(1_000_000),
        _ => Err(DurationError),
    }
}

fn scaled(number: &str, unit: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = number.rsplit('.').next().unwrap_or_default();
    if digits.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return Err(DurationError);
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError)? };
    let mut nanos = whole.checked_mul(unit).ok_or(DurationError)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(u128::from(digit - b'0') * place).ok_or(DurationError)?;
    }
    Ok(nanos)
}

/// Whole seconds in Go's notation without empty units: `2h`, `1h30m`, `4m59s`.
#[must_use]
pub fn format_seconds(seconds: i64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    for (value, unit) in [(h, "h"), (m, "m"), (s, "s")] {
        if value != 0 {
            text.push_str(&value.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
