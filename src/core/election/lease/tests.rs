#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use super::*;

mod interleavings;
mod outages;
mod restored;

/// The clocks of one process; all processes share the true time.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    instant_ms: u64,
    wall_ms: i64,
}

impl Clock {
    fn new(skew_ms: i64) -> Self {
        Self { start: Instant::now(), instant_ms: 0, wall_ms: 1_000_000_000 + skew_ms }
    }

    fn now(&self) -> Moment {
        let wall = Timestamp::from_millisecond(self.wall_ms).unwrap();
        Moment { instant: self.start + Duration::from_millis(self.instant_ms), wall }
    }

    fn advance(&mut self, ms: u64, suspended: bool) {
        self.wall_ms += i64::try_from(ms).unwrap();
        self.instant_ms += if suspended { 0 } else { ms };
    }
}

/// One Lease, as the API server stores it.
#[derive(Default)]
struct Store {
    lease: Option<Lease>,
    versions: u64,
}

impl Store {
    fn put(&mut self, mut lease: Lease) -> Lease {
        self.versions += 1;
        lease.metadata.resource_version = Some(self.versions.to_string());
        self.lease.insert(lease).clone()
    }

    /// Creates the Lease; `Err` is a conflict.
    fn create(&mut self, lease: &Lease) -> Result<Lease, ()> {
        assert_eq!(lease.metadata.resource_version, None, "a new Lease has no resourceVersion");
        if self.lease.is_some() { Err(()) } else { Ok(self.put(lease.clone())) }
    }

    /// Replaces the Lease; `Ok(None)` if it does not exist, `Err` is a conflict.
    fn replace(&mut self, lease: &Lease) -> Result<Option<Lease>, ()> {
        match &self.lease {
            None => Ok(None),
            Some(stored) if stored.metadata.resource_version != lease.metadata.resource_version => Err(()),
            Some(_) => Ok(Some(self.put(lease.clone()))),
        }
    }

    fn edit(&mut self, holder: &str) {
        if let Some(mut lease) = self.lease.clone() {
            lease.spec.as_mut().unwrap().holder_identity = Some(holder.to_owned());
            self.put(lease);
        }
    }

    fn holder(&self) -> Option<&str> {
        self.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref()
    }
}

/// A call in progress.
enum Call {
    Read,
    ReadAnswered(Option<Lease>),
    Write { next: Next, sent: Moment },
    Written { answer: Result<Option<Lease>, ()>, sent: Moment },
}

struct Process {
    clock: Clock,
    candidate: Candidate,
    call: Option<Call>,
}

impl Process {
    fn new(name: &str, skew_ms: i64) -> Self {
        Self { clock: Clock::new(skew_ms), candidate: Candidate::new(name.to_owned()), call: None }
    }

    fn leads(&self) -> bool {
        self.candidate.claim().is_some_and(|claim| claim.valid(self.clock.now()))
    }

    fn start_call(&mut self, next: Next) {
        self.call = match next {
            Next::Wait(_) => None,
            Next::Read => Some(Call::Read),
            write => Some(Call::Write { next: write, sent: self.clock.now() }),
        };
    }

    /// Makes one step of an attempt to acquire or renew: a call is started, served or completed.
    fn step(&mut self, store: &mut Store) {
        let now = self.clock.now();
        match self.call.take() {
            None => {
                let next = self.candidate.begin(now);
                self.start_call(next);
            }
            Some(Call::Read) => self.call = Some(Call::ReadAnswered(store.lease.clone())),
            Some(Call::ReadAnswered(lease)) => {
                let next = self.candidate.read(lease, now);
                self.start_call(next);
            }
            Some(Call::Write { next, sent }) => self.call = Some(Call::Written { answer: serve(store, &next), sent }),
            Some(Call::Written { answer: Ok(Some(lease)), sent }) => self.candidate.written(lease, sent, now),
            Some(Call::Written { answer: Ok(None), .. }) => {
                let next = self.candidate.read(None, now);
                self.start_call(next);
            }
            Some(Call::Written { answer: Err(()), .. }) => self.call = Some(Call::Read),
        }
    }

    /// Makes a complete attempt to acquire or renew, without interruption.
    fn try_acquire_or_renew(&mut self, store: &mut Store) {
        self.step(store);
        while self.call.is_some() {
            self.step(store);
        }
    }

    /// Ends the call without a response; a write that was sent may still arrive.
    fn time_out(&mut self, late: &mut Vec<Next>) {
        if let Some(Call::Write { next, .. }) = self.call.take() {
            late.push(next);
        }
        self.candidate.unanswered(self.clock.now());
    }

    fn advance(&mut self, seconds: u64) {
        self.clock.advance(seconds * 1000, false);
    }
}

fn serve(store: &mut Store, next: &Next) -> Result<Option<Lease>, ()> {
    match next {
        Next::Create(lease) => store.create(lease).map(Some),
        Next::Replace(lease) => store.replace(lease),
        Next::Read | Next::Wait(_) => panic!("not a write"),
    }
}

fn leader_and_standby() -> (Store, Process, Process) {
    let (mut store, mut a, mut b) = (Store::default(), Process::new("a", 0), Process::new("b", 3_600_000));
    a.try_acquire_or_renew(&mut store);
    b.try_acquire_or_renew(&mut store);
    assert!(a.leads() && !b.leads());
    (store, a, b)
}

#[test]
fn the_first_candidate_creates_the_lease_and_renews_it_in_one_term() {
    let (mut store, mut a, mut b) = leader_and_standby();
    let term = a.candidate.claim().unwrap().term;
    let acquired = store.lease.clone().unwrap().spec.unwrap().acquire_time;
    for _ in 0..30 {
        a.advance(2);
        b.advance(2);
        a.try_acquire_or_renew(&mut store);
        b.try_acquire_or_renew(&mut store);
        assert!(a.leads() && !b.leads());
    }
    let spec = store.lease.unwrap().spec.unwrap();
    assert_eq!(a.candidate.claim().unwrap().term, term);
    assert_eq!((spec.acquire_time, spec.lease_transitions, spec.lease_duration_seconds), (acquired, Some(0), Some(10)));
}

#[test]
fn a_released_lease_is_acquired_at_once() {
    let (mut store, a, mut b) = leader_and_standby();
    store.replace(&a.candidate.release(a.clock.now()).unwrap()).unwrap().unwrap();
    let spec = store.lease.clone().unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
    b.try_acquire_or_renew(&mut store);
    assert!(b.leads());
    let spec = store.lease.unwrap().spec.unwrap();
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(1), Some(10)));
}

#[test]
fn a_renewal_records_its_time_and_its_duration() {
    let (mut store, mut a, _) = leader_and_standby();
    let mut edited = store.lease.clone().unwrap();
    edited.spec.as_mut().unwrap().lease_duration_seconds = Some(99);
    store.put(edited);
    a.advance(2);
    a.try_acquire_or_renew(&mut store);
    let spec = store.lease.unwrap().spec.unwrap();
    assert_eq!((spec.lease_duration_seconds, spec.renew_time), (Some(10), Some(MicroTime(a.clock.now().wall))));
    let nanos = Timestamp::from_nanosecond(1_000_000_123_456_789).unwrap();
    assert_eq!(micros(nanos), Timestamp::from_nanosecond(1_000_000_123_456_000).unwrap());
}

#[test]
fn a_lease_without_a_holder_is_acquired_at_once() {
    let mut store = Store::default();
    store.put(Lease::default());
    let mut a = Process::new("a", 0);
    a.try_acquire_or_renew(&mut store);
    assert!(a.leads());
}

#[test]
fn a_lease_expires_ten_seconds_after_its_last_renewal_was_observed() {
    let (mut store, _, mut b) = leader_and_standby();
    b.advance(9);
    b.try_acquire_or_renew(&mut store);
    assert!(!b.leads());
    b.advance(1);
    b.try_acquire_or_renew(&mut store);
    assert!(b.leads());
    // Timestamps in the Lease do not count: it is respected for its duration after it was first observed.
    let mut c = Process::new("c", -86_400_000);
    c.try_acquire_or_renew(&mut store);
    c.advance(9);
    c.try_acquire_or_renew(&mut store);
    assert!(!c.leads());
}

#[test]
fn a_replaced_holder_steps_down_at_its_next_renewal() {
    for holder in ["unknown", "b", ""] {
        let (mut store, mut a, mut b) = leader_and_standby();
        store.edit(holder);
        b.try_acquire_or_renew(&mut store);
        a.try_acquire_or_renew(&mut store);
        assert!(!a.leads() && !b.leads(), "{holder}: a Lease is not acquired before its expiry was observed");
        assert_eq!(a.candidate.claim(), None);
        b.advance(10);
        b.try_acquire_or_renew(&mut store);
        assert!(b.leads(), "{holder}");
    }
}

#[test]
fn the_validity_of_a_claim_starts_before_its_write_is_sent() {
    let (_, mut a, _) = leader_and_standby();
    let claim = a.candidate.claim().unwrap();
    let left = |process: &Process| claim.left(process.clock.now().instant);
    assert_eq!(left(&a), Some(Duration::from_secs(8)));
    a.advance(3);
    assert_eq!(left(&a), Some(Duration::from_secs(5)));
    a.advance(60);
    assert_eq!(left(&a), Some(Duration::ZERO));
    assert_eq!(Claim::ALWAYS.left(a.clock.now().instant), None);
}

#[test]
fn a_candidate_reports_whether_it_may_hold_the_lease_and_whether_it_has_read_it() {
    let (mut store, mut a, b) = leader_and_standby();
    assert!(a.candidate.involved() && !b.candidate.involved());
    assert!(!a.candidate.unread() && !b.candidate.unread());
    let mut c = Process::new("c", 0);
    assert!(c.candidate.unread() && !c.candidate.involved());
    // From its first write on it may hold the Lease, because the response may be lost.
    store.lease = None;
    c.step(&mut store);
    c.step(&mut store);
    c.step(&mut store);
    assert!(c.candidate.involved() && !c.leads());
    c.step(&mut store);
    a.try_acquire_or_renew(&mut store);
    assert!(!a.candidate.involved());
}
