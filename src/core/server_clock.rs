//! Whether the clock of this machine and that of a server differ, as the header `Date` of a response shows.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

/// Clocks that differ less are taken as equal.
const TOLERANCE_SECONDS: u64 = 300;

/// Whether the date of a response is more than 5 minutes off; `None` for what is no date.
#[must_use]
pub fn clock_differs(date: &str, now: Timestamp) -> Option<bool> {
    let sent = jiff::fmt::rfc2822::parse(date.trim()).ok()?.timestamp();
    Some(sent.as_second().abs_diff(now.as_second()) > TOLERANCE_SECONDS)
}

/// What the last response of the API server has shown.
#[derive(Debug, Default)]
pub struct ServerClock(AtomicBool);

impl ServerClock {
    /// Notes the date of a response that arrives now.
    pub fn note(&self, date: &str, now: Timestamp) {
        if let Some(differs) = clock_differs(date, now) {
            self.0.store(differs, Ordering::Relaxed);
        }
    }

    /// Whether the clocks differ; false before the first response.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_from_5_minutes_on_in_either_direction() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        for (date, differs) in [
            ("Thu, 01 Jan 2026 00:10:00 GMT", Some(false)),
            ("Thu, 01 Jan 2026 00:05:00 GMT", Some(false)),
            ("Thu, 01 Jan 2026 00:04:59 GMT", Some(true)),
            ("Thu, 01 Jan 2026 00:15:00 GMT", Some(false)),
            (" Thu, 01 Jan 2026 00:15:01 GMT ", Some(true)),
            ("canary", None),
            ("", None),
        ] {
            assert_eq!(clock_differs(date, now), differs, "{date}");
        }
        let clock = ServerClock::default();
        assert!(!clock.differs());
        clock.note("Thu, 01 Jan 2026 01:00:00 GMT", now);
        clock.note("canary", now);
        assert!(clock.differs());
        clock.note("Thu, 01 Jan 2026 00:10:01 GMT", now);
        assert!(!clock.differs());
    }
}
