//! A cluster and a portal that work.

use super::*;
use crate::core::reconcile::token::Token;

/// A cluster and a portal that work, with everything that a reconcile reads and changes.
pub struct World {
    pub now: Timestamp,
    /// When the next reconcile is due.
    pub wake: Timestamp,
    /// The resource, before anything is known of it.
    pub resource: fn(bool) -> Situation,
    pub verified: bool,
    pub generation: i64,
    pub requested_at: Option<String>,
    pub status: ArcGisAppCredentialStatus,
    pub memory: Memory,
    pub target: Option<Secret>,
    pub credentials: Version,
    pub digest: u64,
    pub version: u64,
    pub granted: i64,
    /// A webhook adds a label to each Secret that is written.
    pub webhook: bool,
    /// The CRD is of an older version: what it does not know is dropped from a status.
    pub older_crd: bool,
    /// After how many more calls the process stops, each time.
    pub stops: Vec<u32>,
    pub verification: Option<(Timestamp, crate::api::Verification)>,
    pub log: Vec<(Timestamp, &'static str)>,
    pub last_exchange: Option<(Timestamp, Trigger)>,
    pub started: Timestamp,
    pub due: Option<Timestamp>,
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
            Step::TryCreate | Step::CheckName | Step::Create if self.target.is_some() => Answer::Conflict,
            Step::TryCreate | Step::CheckName => Answer::Accepted,
            Step::Request(trigger) => self.request(s, *trigger),
            Step::Create => self.create(s),
            step => self.change(step),
        }
    }

    fn change(&mut self, step: &Step) -> Answer {
        match step {
            Step::Publish(patch) => self.patch(patch, "publish"),
            Step::Render(patch) => self.patch(patch, "render"),
            Step::Own(patch) => self.patch(patch, "own"),
            step => panic!("no call: {step:?}"),
        }
    }

    fn create(&mut self, s: &Situation) -> Answer {
        let plan = s.plan.as_ref().unwrap();
        let manifest = render(plan, &s.me, s.unpublished(self.now).unwrap()).manifest(plan, &s.me);
        self.write("create");
        let mut secret: Secret = serde_json::from_value(manifest.expose().clone()).unwrap();
        secret.metadata.uid = Some(self.version.to_string());
        self.store(secret)
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
        if meta["uid"] != version.uid.to_string() || meta["resourceVersion"] != version.resource.to_string() {
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
            self.status = if self.older_crd { pruned(conclusion.status) } else { conclusion.status };
            self.call()?;
            self.memory.report_succeeded(conclusion.reported);
        }
        Ok(if verifies { self.now } else { conclusion.wake })
    }

    /// Another writer strips the label and all annotations from the target.
    pub fn strip(&mut self) {
        self.version += 1;
        if let Some(secret) = &mut self.target {
            (secret.metadata.annotations, secret.metadata.labels) = (None, None);
            secret.metadata.resource_version = Some(self.version.to_string());
        }
        self.wake = self.now;
    }

    /// Passes the time until `end`, or until all that was due is done and `done` holds.
    pub fn run(&mut self, end: Timestamp, done: impl Fn(&World) -> bool) -> bool {
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
    pub fn is_right(&self) -> bool {
        let s = self.observe();
        self.holds_what_is_specified(&s) && self.reports_what_is_right(&s)
    }

    fn holds_what_is_specified(&self, s: &Situation) -> bool {
        let Some(secret) = &self.target else { return false };
        let live = LiveSecret::new(secret.clone(), &s.me);
        let plan = s.plan.as_ref().unwrap();
        let Some(stored) = live.stored(None) else { return false };
        live.owner == Owner::Ours
            && live.patch(&render(plan, &s.me, &s.stored(&live).unwrap())).is_none()
            && live.ownership(plan.target.policy, &s.me).is_none()
            && stored.inputs == s.inputs()
            && stored.expiration_time > self.now
            && stored.issue_time <= self.now
    }

    fn reports_what_is_right(&self, s: &Situation) -> bool {
        let ready = s.condition("Ready").is_some_and(|ready| ready.status == "True");
        // One that is overdue waits for its spacing.
        let renewed = self.status.token.as_ref().is_some_and(|token| token.renewal_time > self.now);
        let version = self.target.as_ref().map(version_of).map(|version| version.resource.to_string());
        ready
            && renewed
            && self.status.target_version.as_deref() == version.as_deref()
            && self.memory.pinned.is_none()
            && self.status.credentials_version.as_deref().is_some_and(|reported| self.credentials.resource == *reported)
            && s.satisfied() == Some(self.generation)
            && self.status.failure.is_none()
            && (self.requested_at.is_none() || self.requested_at == self.status.last_handled_request)
    }
}

/// Returns from when on a token is to be requested, where one is owed and none waits to be written.
fn due(s: &Situation, now: Timestamp) -> Option<Timestamp> {
    let token = s.token(now);
    let suspended = s.memory.waits.all_suspended_until(|| s.made_with(), now);
    matches!(token, Token::Missing { .. } | Token::Published { .. })
        .then(|| s.request_due(now).max(suspended.unwrap_or(Timestamp::MIN)))
}

fn version_of(secret: &Secret) -> Version {
    let meta = &secret.metadata;
    Version::new(meta.uid.clone().unwrap_or_default(), meta.resource_version.clone().unwrap_or_default())
}

/// What a CRD without causes and messages of failures and without digests of tokens stores.
fn pruned(mut status: ArcGisAppCredentialStatus) -> ArcGisAppCredentialStatus {
    if let Some(failure) = &mut status.failure {
        (failure.cause, failure.message) = (None, None);
    }
    if let Some(token) = &mut status.token {
        token.digest = None;
    }
    status
}
