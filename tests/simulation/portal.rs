//! Simulated portals: each host goes through phases, and accepts or rejects each app.

use arcgis_credential_operator::api::Reason;
use fastrand::Rng;

use crate::time::{DAY, HOUR, MINUTE, Ms, SECOND, log_uniform};

/// How a host responds during a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalState {
    Healthy,
    /// Connections are refused at once, or time out.
    Unreachable {
        slow: bool,
    },
    Unavailable,
    /// 429, with the seconds of `Retry-After` if the host sends it.
    Limited(Option<u32>),
    /// 429 to every second request, on average.
    PartlyLimited,
    Malformed,
    /// 403 to every request.
    Maintenance,
}

/// A period in which the portal fails.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    pub from: Ms,
    pub until: Ms,
    pub state: PortalState,
}

/// One host.
#[derive(Default)]
pub struct Portal {
    pub name: String,
    /// In order, without overlaps.
    pub phases: Vec<Phase>,
    /// The longest lifetime that it grants, in seconds.
    pub max_lifetime: i64,
    /// How many resources use it.
    pub users: i64,
    /// When the last phase of 429 began.
    pub rate_limited_since: Ms,
    /// The requests since then.
    pub rate_limited_requests: Vec<Ms>,
    /// Whether the last response that was a 429 or a token was a 429.
    pub paused: bool,
    /// Until when no request may be sent after the last 429.
    pub paused_until: Ms,
    /// Tokens with a smaller serial are not valid.
    pub tokens_ended: u64,
    /// When every token is rejected; in order, without overlaps.
    pub rejecting: Vec<(Ms, Ms)>,
}

/// The result of a request.
pub struct Response {
    pub after: Ms,
    /// The granted seconds, or the reason and the seconds to wait.
    pub result: Result<i64, (Reason, Option<u32>)>,
}

impl Portal {
    /// Returns the phase at a time, if any.
    pub fn phase(&self, now: Ms) -> Option<&Phase> {
        let next = self.phases.partition_point(|phase| phase.until <= now);
        self.phases.get(next).filter(|phase| phase.from <= now)
    }

    /// Whether every token is rejected at a time.
    pub fn rejects(&self, now: Ms) -> bool {
        self.rejecting.iter().any(|(from, until)| (*from..*until).contains(&now))
    }

    /// Returns until when every token was or will be rejected, the last time that this began.
    pub fn rejected_until(&self, now: Ms) -> Ms {
        self.rejecting.iter().filter(|(from, _)| *from <= now).map(|(_, until)| *until).max().unwrap_or(-DAY)
    }

    /// Returns when the last phase that began by now is over and every waiting resource has had a permit.
    pub fn settled_at(&self, now: Ms) -> Ms {
        let started_at = self.phases.partition_point(|phase| phase.from <= now);
        let Some(last) = started_at.checked_sub(1).map(|at| self.phases[at]) else { return 0 };
        // A pause asked for in responses to others lasts at most five minutes, plus one probe.
        let pause = if matches!(last.state, PortalState::Limited(_) | PortalState::PartlyLimited) {
            5 * MINUTE + 2 * SECOND
        } else {
            0
        };
        last.until + pause + self.drain_time()
    }

    /// Returns how long the requests of all its resources take, eight at a time, including timeouts that are still
    /// pending.
    pub fn drain_time(&self) -> Ms {
        20 * SECOND + self.users * LATENCY.1 / 8
    }

    /// Returns the response to a token request.
    pub fn response(&self, now: Ms, rng: &mut Rng, granted: i64, rejection: Option<Reason>) -> Response {
        let quick = rng.i64(LATENCY.0..LATENCY.1);
        let state = match self.phase(now).map_or(PortalState::Healthy, |phase| phase.state) {
            PortalState::PartlyLimited if rng.bool() => PortalState::Limited(Some(60)),
            PortalState::PartlyLimited => PortalState::Healthy,
            state => state,
        };
        let fail = |after, reason| Response { after, result: Err((reason, None)) };
        match state {
            PortalState::Healthy | PortalState::PartlyLimited => match rejection {
                Some(reason) => fail(quick, reason),
                None => Response { after: quick, result: Ok(granted.min(self.max_lifetime)) },
            },
            PortalState::Unreachable { slow: true } => fail(5 * SECOND, Reason::PortalUnreachable),
            PortalState::Unreachable { slow: false } => fail(20, Reason::PortalUnreachable),
            PortalState::Unavailable => fail(quick, Reason::PortalUnavailable),
            PortalState::Malformed => fail(quick, Reason::MalformedResponse),
            PortalState::Maintenance => fail(quick, Reason::RequestRejected),
            PortalState::Limited(seconds) => {
                let seconds = seconds.unwrap_or(60).clamp(60, 3600);
                Response { after: quick, result: Err((Reason::RateLimited, Some(seconds))) }
            }
        }
    }
}

/// The shortest and the longest time of a response in milliseconds.
pub const LATENCY: (Ms, Ms) = (120, 600);

/// Returns phases of minutes to six hours, about every other day.
pub fn random_phases(rng: &mut Rng, end: Ms) -> Vec<Phase> {
    let mut phases = Vec::new();
    let mut from = rng.i64(6 * HOUR..40 * HOUR);
    while from < end {
        let until = from + log_uniform(rng, 2 * MINUTE, 6 * HOUR);
        let state = match rng.u8(0..12) {
            0 => PortalState::Unreachable { slow: true },
            1 | 2 => PortalState::Unreachable { slow: false },
            3 | 4 => PortalState::Unavailable,
            5 => PortalState::Limited(None),
            6 => PortalState::Limited(Some(rng.u32(1..120))),
            7 => PortalState::Limited(Some(rng.u32(120..7200))),
            8 => PortalState::Malformed,
            9 | 10 => PortalState::PartlyLimited,
            _ => PortalState::Maintenance,
        };
        phases.push(Phase { from, until, state });
        from = until + rng.i64(8 * HOUR..64 * HOUR);
    }
    phases
}
