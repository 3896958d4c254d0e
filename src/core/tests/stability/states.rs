//! The states that a reconcile may start from: status, memory, target and index, each as one that faults can leave.

use k8s_openapi::ByteString;

use super::*;
use crate::core::reconcile::facts::{Fact, Unmet};
use crate::core::reconcile::memory::TargetName;

/// A list of choices, of which the first of each is the simplest: so proptest finds the simplest state that fails.
#[derive(Clone, Debug)]
pub struct Start(Vec<u16>);

pub fn starts() -> impl Strategy<Value = Start> {
    proptest::collection::vec(any::<u16>(), 96).prop_map(Start)
}

struct Choices {
    left: std::vec::IntoIter<u16>,
}

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.left.next().unwrap_or(0)) % n
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }

    /// A time around now, also one that a clock that was ahead has left.
    fn time(&mut self, now: Timestamp) -> Timestamp {
        after(now, self.one_of(&[-5, 0, 5, -60, 60, -3600, 3600, 86_400]))
    }

    fn made_with(&mut self, s: &Situation) -> MadeWith {
        let current = s.made_with();
        match self.below(3) {
            0 => current,
            1 => MadeWith { generation: current.generation - 1, ..current },
            _ => MadeWith { credentials: "1".to_owned(), ..current },
        }
    }

    fn wait(&mut self, s: &Situation, activity: Activity, now: Timestamp) -> Wait {
        let reasons: &[Reason] = match activity {
            Activity::Request => &[
                Reason::PortalUnreachable,
                Reason::ClientSecretRejected,
                Reason::RequestRejected,
                Reason::RateLimited,
                Reason::MalformedResponse,
                Reason::ClusterError,
                Reason::Internal,
            ],
            _ => &[Reason::ClusterError, Reason::TargetRefused, Reason::Internal],
        };
        Wait {
            activity,
            reason: self.one_of(reasons),
            finding: crate::core::Finding::default(),
            start_time: after(now, -3600),
            count: self.one_of(&[1, 0, 2, 7, 40]),
            last_attempt: self.maybe(|c| c.time(now)),
            next_attempt: self.time(now),
            made_with: self.made_with(s),
        }
    }

    /// A prerequisite that is met by now. What a status says of a version that was not changed since is believed.
    fn unmet(&mut self, s: &Situation, now: Timestamp) -> Unmet {
        let made_with = MadeWith { credentials: "1".to_owned(), ..s.made_with() };
        let reason = self.one_of(&[
            Reason::CredentialsNotFound,
            Reason::CredentialsIncomplete,
            Reason::PortalNotAllowed,
            Reason::SpecInvalid,
        ]);
        Unmet {
            reason,
            finding: crate::core::Finding::default(),
            start_time: after(now, -3600),
            found_at: self.time(now),
            made_with,
        }
    }

    /// The last token: none, valid, soon or long due, expired, or of a clock that was ahead.
    fn token(&mut self, s: &Situation, now: Timestamp) -> IssuedToken {
        let (issued, lifetime) = self.one_of(&[
            (-60, 7200),
            (-5400, 7200),
            (-7140, 7200),
            (-8000, 7200),
            (-10, 60),
            (-100, 60),
            (40_000, 7200),
            (-40_000, 1_209_600),
        ]);
        let mut token = published(s, after(now, issued), lifetime);
        if self.yes() {
            token.inputs = Some("v1:other".into());
        }
        token
    }

    fn target(&mut self, s: &Situation, token: &IssuedToken) -> Secret {
        let mut plan = s.plan.clone().unwrap();
        if self.yes() {
            plan.target.labels.clear();
        }
        if self.yes() {
            plan.target.policy = self.one_of(&[crate::api::DeletionPolicy::Delete, crate::api::DeletionPolicy::Retain]);
        }
        let manifest = render(&plan, &s.me, token).manifest(&plan, &s.me);
        let mut secret: Secret = serde_json::from_value(manifest.expose().clone()).unwrap();
        (secret.metadata.uid, secret.metadata.resource_version) = (Some("target".to_owned()), Some("50".to_owned()));
        if self.below(4) == 3 {
            secret.data.get_or_insert_default().insert("access_token".to_owned(), ByteString(b"damaged".to_vec()));
        }
        secret
    }

    fn memory(&mut self, s: &Situation, target: Option<&Secret>, now: Timestamp) -> Memory {
        let mut memory = Memory { recalled: self.yes(), ..Memory::default() };
        if !memory.recalled {
            return memory;
        }
        memory.target_name = self.one_of(&[
            TargetName::Untried,
            TargetName::Accepted(s.generation),
            TargetName::Accepted(s.generation - 1),
            TargetName::Taken,
        ]);
        memory.written_generation = self.maybe(|c| s.generation - i64::from(c.yes()));
        memory.pinned = self.maybe(|c| c.one_of(Trigger::ALL));
        memory.last_exchange = self.maybe(|c| c.time(now).into());
        memory.last_handled_request = self.maybe(|_| "once".into());
        memory.issued = self.maybe(|c| Box::new(c.token(s, now)));
        memory.unmet = self.maybe(|c| Box::new(c.unmet(s, now)));
        for activity in [Activity::Read, Activity::Request, Activity::Write, Activity::Own, Activity::Report] {
            if self.below(4) == 3 {
                let wait = self.wait(s, activity, now);
                memory.waits.insert(wait);
            }
        }
        if memory.waits.get(Activity::Request).is_some() {
            // What failed is still owed.
            memory.pinned.get_or_insert(Trigger::Retry);
        }
        for _ in 0..self.below(5) {
            memory.repairs.record(self.time(now));
        }
        let stale = Version::new("u", "1");
        memory.facts.credentials =
            self.maybe(|c| (c.one_of(&[s.credentials.version().unwrap().clone(), stale.clone()]), c.one_of(&[7, 8])));
        memory.facts.incomplete = self.maybe(|_| {
            Box::new(Fact {
                version: stale.clone(),
                generation: Some(1),
                found: CredentialsError { key: "client_id".to_owned(), cause: crate::api::Cause::Empty },
            })
        });
        // What it has found of the target is true for this version of it.
        if let Some(secret) = target.filter(|_| self.yes()) {
            let mut reading = situation_of(s, memory, ArcGisAppCredentialStatus::default());
            reading.target_read(Some(LiveSecret::new(secret.clone(), &s.me)));
            memory = reading.memory;
        }
        memory
    }

    fn status(&mut self, s: &Situation, target: Option<&Secret>, now: Timestamp) -> ArcGisAppCredentialStatus {
        let mut status = ArcGisAppCredentialStatus { observed_generation: -1, ..ArcGisAppCredentialStatus::default() };
        if !self.yes() {
            return status;
        }
        // As the operator left it, for this generation or the one before.
        let mut reported = situation_of(s, Memory::default(), status.clone());
        reported.generation -= i64::from(self.yes());
        let (generation, at) = (reported.generation, after(now, -30));
        match target.filter(|_| self.yes()) {
            Some(secret) => reported.target_read(Some(LiveSecret::new(secret.clone(), &s.me))),
            None => reported.target = Observed::Absent,
        }
        let verdict = Verdict { step: Step::Rest, ..decide(&reported, at) };
        status = conclude(reported, verdict, at).status;
        assert_eq!(status.observed_generation, generation);
        status.failure = self.maybe(|c| {
            if c.below(3) == 0 {
                return crate::core::report::failure::record(&c.unmet(s, now));
            }
            let activity = c.one_of(&[Activity::Request, Activity::Write, Activity::Own, Activity::Read]);
            c.wait(s, activity, now).report()
        });
        status.credentials_version = self.maybe(|c| c.one_of(&["2".to_owned(), "1".to_owned()]));
        status.last_handled_request = self.maybe(|_| "once".to_owned());
        if self.yes() {
            status.target_version = None;
        }
        status
    }
}

/// Returns the resource with other contents.
fn situation_of(s: &Situation, memory: Memory, status: ArcGisAppCredentialStatus) -> Situation {
    Situation {
        me: s.me.clone(),
        plan: s.plan.clone(),
        generation: s.generation,
        credentials: Observed::Cached(s.credentials.version().unwrap().clone()),
        memory,
        status,
        ..situation(at(START))
    }
}

/// A resource with labels, a format and verification.
fn resource(verified: bool) -> Situation {
    let mut spec = json!({"credentialsRef": {"name": "c"}, "target": {"name": "t", "labels": {"team": "maps"}}});
    if verified {
        spec["verification"] = json!({"interval": "15m"});
    }
    let mut s = situation(at(START));
    s.plan = Plan::new(&serde_json::from_value(spec).unwrap());
    s.generation = 3;
    s.credentials = Observed::Cached(Version::new("u", "2"));
    s
}

impl Start {
    pub fn world(self) -> World {
        let mut c = Choices { left: self.0.into_iter() };
        let now = at(START);
        let verified = c.yes();
        let s = resource(verified);
        let token = c.token(&s, now);
        let target = c.maybe(|c| c.target(&s, &token));
        let status = c.status(&s, target.as_ref(), now);
        let memory = c.memory(&s, target.as_ref(), now);
        World {
            now,
            wake: now,
            resource,
            verified,
            generation: 3,
            requested_at: c.maybe(|c| c.one_of(&["once".to_owned(), "twice".to_owned()])),
            status,
            memory,
            target,
            credentials: Version::new("u", "2"),
            digest: 7,
            version: 100,
            granted: c.one_of(&[7200, 1800, 60, 1_209_600]),
            webhook: c.yes(),
            older_crd: c.yes(),
            stops: (0..c.below(4)).map(|_| u32::try_from(c.below(6)).unwrap()).collect(),
            verification: None,
            log: Vec::new(),
            last_exchange: None,
            started: now,
            due: None,
        }
    }
}
