//! Eventually stable reconciliation: from any state, after the last fault, the target becomes right within a bound, and then
//! nothing is requested or written until the next renewal. The process may stop between any two calls.

use super::*;
use crate::core::reconcile::decide::request_due;
use crate::core::reconcile::token::Token;
use crate::core::scheduling::schedule::after;

mod states;

use states::starts;

/// An exchange takes this long.
const EXCHANGE_SECONDS: i64 = 10;
/// The longest wait of an hour with its jitter, a wait of a quarter of an hour after it, and a pause.
const BOUND_SECONDS: i64 = 2 * 3600 + 1800;

/// More than these take too long for each run of the tests.
const CASES: u32 = 100;

/// A cluster and a portal that work, with everything that a reconcile reads and changes.
struct World {
    now: Timestamp,
    /// When the next reconcile is due.
    wake: Timestamp,
    /// The resource, before anything is known of it.
    resource: fn(bool) -> Situation,
    verified: bool,
    generation: i64,
    requested_at: Option<String>,
    status: ArcGisAppCredentialStatus,
    memory: Memory,
    target: Option<Secret>,
    credentials: Version,
    digest: u64,
    version: u64,
    granted: i64,
    /// A webhook adds a label to each Secret that is written.
    webhook: bool,
    /// After how many more calls the process stops, each time.
    stops: Vec<u32>,
    verification: Option<(Timestamp, crate::api::Verification)>,
    log: Vec<(Timestamp, &'static str)>,
    last_exchange: Option<(Timestamp, Trigger)>,
    started: Timestamp,
    due: Option<Timestamp>,
}

/// The process stops here.
struct Stopped;

impl Edge for World {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn leads(&self) -> bool {
        true
    }

    fn is_current(&self, s: &Situation) -> bool {
        s.generation == self.generation
    }

    fn admit(&self, _: &Plan) -> Admit {
        Admit::Now
    }

    fn acquire(&mut self, _: &Plan) -> Admit {
        Admit::Now
    }
}

impl World {
    fn observe(&self) -> Situation {
        let mut s = (self.resource)(self.verified);
        s.generation = self.generation;
        s.requested_at.clone_from(&self.requested_at);
        s.status = self.status.clone();
        s.memory = self.memory.clone();
        s.target = self.target.as_ref().map_or(Observed::Absent, |secret| Observed::Cached(version_of(secret)));
        s.credentials = Observed::Cached(self.credentials.clone());
        s.recall(self.now);
        if let Some((issued, answer)) = self.verification.clone() {
            s.verified(issued, answer, self.now);
        }
        s
    }

    fn call(&mut self) -> Result<(), Stopped> {
        match self.stops.last_mut() {
            Some(0) => {
                self.stops.pop();
                self.memory = Memory::default();
                // Nobody remembers a request whose token was not written.
                (self.verification, self.due, self.last_exchange) = (None, None, None);
                self.started = self.now;
                Err(Stopped)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, what: &'static str) {
        self.log.push((self.now, what));
        self.version += 1;
    }

    /// Answers a call. A process that stops may have written before.
    fn answer(&mut self, s: &Situation, step: &Step) -> Answer {
        match step {
            Step::ReadTarget => Answer::Target(self.target.clone().map(|secret| LiveSecret::new(secret, &s.me))),
            Step::ReadCredentials => Answer::Credentials(Some((self.credentials.clone(), Ok(self.digest)))),
            Step::TryCreate | Step::Create if self.target.is_some() => Answer::Conflict,
            Step::TryCreate => Answer::Accepted,
            Step::Request(trigger) => self.request(s, *trigger),
            Step::Create => {
                let plan = s.plan.as_ref().unwrap();
                let manifest = render(plan, &s.me, s.unpublished(self.now).unwrap()).manifest(plan, &s.me);
                self.write("create");
                let mut secret: Secret = serde_json::from_value(manifest.expose().clone()).unwrap();
                secret.metadata.uid = Some(self.version.to_string());
                self.store(secret)
            }
            Step::Publish(patch) => self.patch(patch, "publish"),
            Step::Render(patch) => self.patch(patch, "render"),
            Step::Own(patch) => self.patch(patch, "own"),
            step => panic!("no call: {step:?}"),
        }
    }

    fn request(&mut self, s: &Situation, trigger: Trigger) -> Answer {
        if let Some((ended, _)) = self.last_exchange {
            let least = if matches!(trigger, Trigger::Due | Trigger::Lapsed | Trigger::ClockSetBack) { 30 } else { 5 };
            let passed = self.now.duration_since(ended).as_secs();
            assert!(passed >= least, "{trigger:?} {passed} s after the last exchange: {:?}", self.log);
        }
        if let Some(due) = self.due {
            let late = self.now.duration_since(due).as_secs();
            assert!(late <= 2, "{trigger:?} {late} s late: {:?}", self.log);
        }
        let sent = self.now;
        self.log.push((sent, "request"));
        self.now = after(self.now, EXCHANGE_SECONDS);
        self.last_exchange = Some((self.now, trigger));
        self.version += 1;
        let token = token(&format!("{}.{}", s.me.name, self.version));
        Answer::Issued { token, lifetime_seconds: self.granted, sent }
    }

    fn patch(&mut self, patch: &SecretPatch, what: &'static str) -> Answer {
        self.write(what);
        let Some(mut secret) = self.target.clone() else { return Answer::Conflict };
        let meta = &patch.expose()["metadata"];
        let version = version_of(&secret);
        if meta["uid"] != version.uid.as_str() || meta["resourceVersion"] != version.resource.as_str() {
            return Answer::Conflict;
        }
        let mut value = serde_json::to_value(&secret).unwrap();
        json_patch::merge(&mut value, patch.expose());
        secret = serde_json::from_value(value).unwrap();
        self.store(secret)
    }

    fn store(&mut self, mut secret: Secret) -> Answer {
        secret.metadata.resource_version = Some(self.version.to_string());
        if self.webhook {
            secret.metadata.labels.get_or_insert_default().insert("cost-center".to_owned(), "42".to_owned());
        }
        let version = version_of(&secret);
        self.target = Some(secret);
        Answer::Written(version)
    }

    /// Reconciles once; returns when to do it again.
    fn reconcile(&mut self) -> Result<Timestamp, Stopped> {
        let mut reconciliation = Reconciliation::new(self.observe());
        let verdict = loop {
            match reconciliation.next(self) {
                Progress::Call(step) => {
                    let answer = self.answer(&reconciliation.s, &step);
                    self.call()?;
                    reconciliation.record(&step, answer, self.now);
                }
                Progress::Rest(verdict) => break verdict,
                Progress::Abandon(seconds) => {
                    self.memory = reconciliation.s.memory;
                    return Ok(after(self.now, seconds));
                }
            }
        };
        let mut s = reconciliation.s;
        self.verification = s.verification_due(self.now).filter(|due| *due <= self.now).and_then(|_| {
            Some((s.verification_started(self.now)?, crate::api::Verification::AppKnown(crate::api::App::default())))
        });
        let verifies = self.verification.is_some();
        self.due = due(&s, self.now);
        let conclusion = conclude(s, verdict, self.now);
        self.memory = conclusion.memory;
        if conclusion.changed && conclusion.report_after.is_none() {
            self.write("status");
            self.status = conclusion.status;
            self.call()?;
            self.memory.report_succeeded(conclusion.reported);
        }
        Ok(if verifies { self.now } else { conclusion.wake })
    }

    /// Passes the time until `end`, or until all that was due is done and `done` holds.
    fn run(&mut self, end: Timestamp, done: impl Fn(&World) -> bool) -> bool {
        while self.wake <= end {
            self.now = self.now.max(self.wake);
            assert!(self.log.len() < 300, "it does not come to rest: {:?}", self.log);
            self.wake = self.reconcile().unwrap_or(self.now);
            if self.wake > self.now && done(self) {
                self.stops.clear();
                return true;
            }
        }
        self.now = self.now.max(end);
        false
    }

    /// Whether the target holds a valid token and everything else that is specified, and the status says so.
    fn is_right(&self) -> bool {
        let s = self.observe();
        let Some(secret) = &self.target else { return false };
        let live = LiveSecret::new(secret.clone(), &s.me);
        let plan = s.plan.as_ref().unwrap();
        let Some(stored) = live.stored() else { return false };
        let ready = s.condition("Ready").is_some_and(|ready| ready.status == "True");
        live.owner == Owner::Ours
            && live.patch(&render(plan, &s.me, &s.stored(&live).unwrap())).is_none()
            && live.ownership(plan.target.policy, &s.me).is_none()
            && Some(&stored.inputs) == s.inputs().as_ref()
            && stored.expiration_time > self.now
            && stored.issue_time <= self.now
            // One that is overdue waits for its spacing.
            && self.status.token.as_ref().is_some_and(|token| token.renewal_time > self.now)
            && self.memory.demand.is_none()
            && self.status.credentials_version.as_ref() == Some(&self.credentials.resource)
            && ready
            && s.satisfied() == Some(self.generation)
            && self.status.failure.is_none()
            && self.status.last_handled_request.is_some() >= self.requested_at.is_some()
    }
}

/// Returns from when on a token is to be requested, where one is owed and none waits to be written.
fn due(s: &Situation, now: Timestamp) -> Option<Timestamp> {
    let token = s.token(now);
    let suspended = s.memory.waits.all_suspended_until(&s.made_with(), now);
    matches!(token, Token::Missing { .. } | Token::Published { .. })
        .then(|| request_due(s, token, now).max(suspended.unwrap_or(Timestamp::MIN)))
}

fn version_of(secret: &Secret) -> Version {
    let meta = &secret.metadata;
    Version { uid: meta.uid.clone().unwrap_or_default(), resource: meta.resource_version.clone().unwrap_or_default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_target_becomes_right_and_then_nothing_is_written_until_its_renewal(start in starts()) {
        let mut world = start.world();
        let end = after(world.now, BOUND_SECONDS);
        prop_assert!(world.run(end, World::is_right), "not right within the bound: {:?}\n{:?}", world.log, world.status);
        // A restart finds it right, too.
        world.run(after(world.now, 1), |_| false);
        world.log.clear();
        (world.memory, world.wake, world.due, world.last_exchange) = (Memory::default(), world.now, None, None);
        let before = world.status.clone();
        world.run(after(world.now, 1), |_| false);
        prop_assert!(world.log.is_empty(), "after a restart: {:?} {before:?} {:?}", world.log, world.status);
        // What is right stays as it is until the renewal. Then one request, one write of the target and one of the status.
        for _ in 0..2 {
            // An answer of the verification may still be reported.
            let settled = after(world.now, 1);
            world.run(settled, |_| false);
            let renewal = world.status.token.as_ref().unwrap().renewal_time;
            world.log.clear();
            world.run(after(renewal, -1), |_| false);
            prop_assert!(world.log.is_empty(), "before the renewal at {renewal}: {:?}", world.log);
            // The minimum spacing counts from the end of the exchange.
            world.run(after(renewal, EXCHANGE_SECONDS + 3), |_| false);
            let kinds: Vec<_> = world.log.iter().map(|(_, what)| *what).collect();
            prop_assert_eq!(&kinds, &["request", "publish", "status"]);
            prop_assert!(world.is_right());
        }
    }

    #[test]
    fn repairs_of_a_contested_target_are_limited(start in starts()) {
        let mut world = start.world();
        let end = after(world.now, BOUND_SECONDS);
        prop_assert!(world.run(end, World::is_right));
        world.log.clear();
        let end = after(world.now, 600);
        while world.now < end {
            world.version += 1;
            if let Some(secret) = &mut world.target {
                secret.metadata.labels.get_or_insert_default().insert("team".to_owned(), "others".to_owned());
                secret.metadata.resource_version = Some(world.version.to_string());
            }
            world.wake = world.now;
            world.run(after(world.now, 7), |_| false);
        }
        let renders = world.log.iter().filter(|(_, what)| *what == "render").count();
        prop_assert!((3..=14).contains(&renders), "{renders} repairs in 10 minutes: {:?}", world.log);
    }

    #[test]
    fn a_requested_token_is_requested_five_seconds_after_the_last(start in starts()) {
        let mut world = start.world();
        let end = after(world.now, BOUND_SECONDS);
        prop_assert!(world.run(end, World::is_right));
        world.requested_at = Some("again".to_owned());
        // A state may begin with a request a moment ago, and a process with a token of a clock that was ahead.
        let last = world.last_exchange.map_or(world.started, |(ended, _)| ended);
        let due = after(last, 5).max(world.now);
        (world.due, world.verification, world.wake) = (None, None, world.now);
        world.log.clear();
        world.run(after(due, 2), |_| false);
        let requested = world.log.iter().filter(|(_, what)| *what == "request").count();
        prop_assert_eq!(requested, 1, "{:?}", world.log);
        prop_assert_eq!(world.status.last_handled_request.as_deref(), Some("again"));
    }
}
