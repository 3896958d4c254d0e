//! A time in half of the room, for what is kept of each resource.

use std::num::NonZeroU64;

use jiff::Timestamp;

/// Moves the microseconds, which may be negative, to numbers above zero.
const ORIGIN: u64 = 1 << 63;

/// A time in microseconds: optional in eight bytes, where a [`Timestamp`] takes 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CompactTime(NonZeroU64);

impl CompactTime {
    /// Returns the first one that is no earlier than a time.
    #[must_use]
    pub fn not_before(time: Timestamp) -> Self {
        let before = Self::from(time);
        if Timestamp::from(before) < time { Self(before.0.saturating_add(1)) } else { before }
    }

    #[must_use]
    pub fn as_second(self) -> i64 {
        Timestamp::from(self).as_second()
    }
}

impl From<Timestamp> for CompactTime {
    fn from(time: Timestamp) -> Self {
        let number = time.as_microsecond().cast_unsigned() ^ ORIGIN;
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

impl From<CompactTime> for Timestamp {
    fn from(CompactTime(number): CompactTime) -> Self {
        Self::from_microsecond((number.get() ^ ORIGIN).cast_signed()).unwrap_or(Self::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_in_microseconds_and_keeps_its_order() {
        let texts = [
            "-009999-01-02T01:59:59Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000001Z",
            "9999-12-30T22:00:00Z",
        ];
        let times: Vec<Timestamp> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let compact: Vec<CompactTime> = times.iter().copied().map(Into::into).collect();
        assert!(times.len() == texts.len() && compact.is_sorted());
        assert_eq!(compact.iter().copied().map(Timestamp::from).collect::<Vec<_>>(), times);
        assert_eq!(size_of::<Option<CompactTime>>(), 8);
        for end in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(Timestamp::from(CompactTime::from(end)), end);
        }
    }

    #[test]
    fn a_time_is_rounded_to_one_that_is_not_earlier() {
        let up = |nanoseconds| {
            let time = Timestamp::from_nanosecond(nanoseconds).unwrap_or_default();
            Timestamp::from(CompactTime::not_before(time)).as_nanosecond()
        };
        assert_eq!([-1001, -1000, -999, 0, 1, 1000, 1001].map(up), [-1000, -1000, 0, 0, 1000, 1000, 2000]);
        assert_eq!(Timestamp::from(CompactTime::not_before(Timestamp::MAX)), Timestamp::MAX);
    }
}
