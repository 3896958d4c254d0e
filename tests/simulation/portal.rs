//! Simulated portals: each host has its weather, each app its standing.

use arcgis_credential_operator::api::Reason;
use fastrand::Rng;

use crate::time::{HOUR, MINUTE, Ms, SECOND, log_uniform};

/// How a host answers for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Clear,
    /// Connections are refused at once, or time out.
    Unreachable {
        slow: bool,
    },
    Unavailable,
    /// 429; seconds of `Retry-After`, if it says so.
    Limited(Option<u32>),
    Malformed,
    /// 403 to everybody.
    Maintenance,
}

/// A stretch of bad weather.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    pub from: Ms,
    pub until: Ms,
    pub weather: Weather,
}

/// One host.
#[derive(Default)]
pub struct Portal {
    pub name: String,
    /// In order, not overlapping.
    pub spells: Vec<Spell>,
    /// The longest lifetime it grants, seconds.
    pub most: i64,
    /// Resources that use it.
    pub users: i64,
    /// When the last spell of 429 began, and when it was asked since.
    pub storm_began: Ms,
    pub storm: Vec<Ms>,
    /// The last answer that says so was a 429 and not a token.
    pub paused: bool,
}

/// What a request comes back with.
pub struct Answer {
    pub after: Ms,
    /// Granted seconds, or what went wrong and how many seconds to wait.
    pub result: Result<i64, (Reason, Option<u32>)>,
}

impl Portal {
    /// The spell at a time, if any.
    pub fn spell(&self, now: Ms) -> Option<&Spell> {
        let next = self.spells.partition_point(|spell| spell.until <= now);
        self.spells.get(next).filter(|spell| spell.from <= now)
    }

    /// When the last spell that began by now is over and everybody who waited has had a turn.
    pub fn recovered_at(&self, now: Ms) -> Ms {
        let begun = self.spells.partition_point(|spell| spell.from <= now);
        let Some(last) = begun.checked_sub(1).map(|at| self.spells[at]) else { return 0 };
        // A pause that others asked for is at most five minutes, and one probe long.
        let pause = if matches!(last.weather, Weather::Limited(_)) { 5 * MINUTE + 2 * SECOND } else { 0 };
        last.until + pause + self.drain()
    }

    /// How long a whole fleet takes, eight at a time, with what hangs from before.
    pub fn drain(&self) -> Ms {
        20 * SECOND + self.users * LATENCY.1 / 8
    }

    /// Asks for a token.
    pub fn answer(&self, now: Ms, rng: &mut Rng, granted: i64, refusal: Option<Reason>) -> Answer {
        let quick = rng.i64(LATENCY.0..LATENCY.1);
        let weather = self.spell(now).map_or(Weather::Clear, |spell| spell.weather);
        let fail = |after, reason| Answer { after, result: Err((reason, None)) };
        match weather {
            Weather::Clear => match refusal {
                Some(reason) => fail(quick, reason),
                None => Answer { after: quick, result: Ok(granted.min(self.most)) },
            },
            Weather::Unreachable { slow: true } => fail(5 * SECOND, Reason::PortalUnreachable),
            Weather::Unreachable { slow: false } => fail(20, Reason::PortalUnreachable),
            Weather::Unavailable => fail(quick, Reason::PortalUnavailable),
            Weather::Malformed => fail(quick, Reason::MalformedResponse),
            Weather::Maintenance => fail(quick, Reason::RequestRejected),
            Weather::Limited(seconds) => {
                let seconds = seconds.unwrap_or(60).clamp(60, 3600);
                Answer { after: quick, result: Err((Reason::RateLimited, Some(seconds))) }
            }
        }
    }
}

/// Milliseconds that an answer takes, from and to.
pub const LATENCY: (Ms, Ms) = (120, 600);

/// Bad weather from minutes to six hours, every other day or so.
pub fn forecast(rng: &mut Rng, end: Ms) -> Vec<Spell> {
    let mut spells = Vec::new();
    let mut from = rng.i64(6 * HOUR..40 * HOUR);
    while from < end {
        let until = from + log_uniform(rng, 2 * MINUTE, 6 * HOUR);
        let weather = match rng.u8(0..10) {
            0 => Weather::Unreachable { slow: true },
            1 | 2 => Weather::Unreachable { slow: false },
            3 | 4 => Weather::Unavailable,
            5 => Weather::Limited(None),
            6 => Weather::Limited(Some(rng.u32(1..120))),
            7 => Weather::Limited(Some(rng.u32(120..7200))),
            8 => Weather::Malformed,
            _ => Weather::Maintenance,
        };
        spells.push(Spell { from, until, weather });
        from = until + rng.i64(8 * HOUR..64 * HOUR);
    }
    spells
}
