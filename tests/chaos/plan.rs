//! What goes wrong, and when: a plan of faults that depends on nothing but its seed.

use std::time::Duration;

use fastrand::Rng;

/// What a fault affects. Two faults at once never affect the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    ControlPlane,
    Connections,
    Replicas,
    Rules,
    Portal,
    Users,
}

impl Subject {
    pub const ALL: [Self; 6] =
        [Self::ControlPlane, Self::Connections, Self::Replicas, Self::Rules, Self::Portal, Self::Users];
}

macro_rules! faults {
    ($($name:ident: $subject:ident, $settle:ident;)*) => {
        /// One kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($name),* }

        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub fn subject(self) -> Subject {
                match self { $(Self::$name => Subject::$subject),* }
            }

            /// Returns how long after its end everything has recovered.
            pub fn settle(self) -> Duration {
                match self { $(Self::$name => $settle),* }
            }
        }
    };
}

/// Retries double from 2 s on: the last wait is about as long as the faults together, after the 15 s of a request.
const SOON: Duration = Duration::from_mins(1);
/// The first retry comes after 60 to 75 s, or a silent connection is given up within 90 s. An API server that has just
/// started answers 403 until it knows the permissions.
const LATER: Duration = Duration::from_secs(105);

/// The last wait is about as long as the errors were, after the 15 s of a request; tokens are checked every minute.
const AFTER_MINUTES: Duration = Duration::from_mins(3);
/// How long the portal fails before its tokens end.
const ERRORS: Duration = Duration::from_mins(2);

/// Then nothing is wrong for a while, so that what is late is late without an excuse.
const QUIET: Duration = Duration::from_secs(20);

faults! {
    ApiServerKilled: ControlPlane, LATER;
    ApiServerRestarted: ControlPlane, LATER;
    ApiServerFrozen: ControlPlane, SOON;
    EtcdRestarted: ControlPlane, SOON;
    EtcdCompacted: ControlPlane, LATER;
    EtcdRestored: ControlPlane, LATER;
    ApiSlow: Connections, SOON;
    ApiTooManyRequests: Connections, SOON;
    ApiPriorityAndFairness: Connections, SOON;
    WatchesTooOld: Connections, SOON;
    ApiErrors: Connections, SOON;
    ConnectionsSilent: Connections, LATER;
    LeaderKilled: Replicas, SOON;
    LeaderPaused: Replicas, SOON;
    LeaderCutOff: Replicas, SOON;
    PolicyDenies: Rules, LATER;
    QuotaExceeded: Rules, LATER;
    PermissionsTaken: Rules, LATER;
    PortalHangs: Portal, SOON;
    PortalFlaps: Portal, SOON;
    PortalLimits: Portal, LATER;
    PortalUntrusted: Portal, LATER;
    GatewayUnauthorized: Portal, SOON;
    TokensEnded: Portal, AFTER_MINUTES;
    TargetsDeleted: Users, SOON;
    TargetsEdited: Users, SOON;
    CredentialsDeleted: Users, SOON;
    CredentialsEdited: Users, SOON;
    SecretsAnnotated: Users, SOON;
}

/// One fault of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub fault: Fault,
    /// When it begins, from the start of its group.
    pub after: Duration,
    pub lasts: Duration,
}

/// Faults that overlap, and the calm after them, in which everything recovers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub faults: Vec<Planned>,
    pub calm: Duration,
}

impl Group {
    /// Returns how long its faults take.
    pub fn length(&self) -> Duration {
        self.faults.iter().map(|planned| planned.after + planned.lasts).max().unwrap_or_default()
    }
}

/// The kinds of one subject, in random order and without repetition until all were drawn.
struct Deck {
    kinds: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    fn draw(&mut self, rng: &mut Rng) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            rng.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}

/// Returns groups of which the last begins before this time is over. `short`: only kinds that settle soon, and less calm.
pub fn plan(seed: u64, length: Duration, short: bool) -> Vec<Group> {
    let mut rng = Rng::with_seed(seed);
    let usable = |fault: &&Fault| !short || fault.settle() == SOON;
    let kinds =
        |subject| Fault::ALL.iter().filter(usable).copied().filter(|f| f.subject() == subject).collect::<Vec<_>>();
    let mut decks = Subject::ALL.map(|subject| Deck { kinds: kinds(subject), left: Vec::new() });
    let mut groups = Vec::new();
    let mut passed = Duration::ZERO;
    while passed < length {
        let mut group = group(&mut decks, &mut rng);
        group.calm += if short { Duration::ZERO } else { QUIET };
        passed += group.length() + group.calm;
        groups.push(group);
    }
    groups
}

fn group(decks: &mut [Deck; 6], rng: &mut Rng) -> Group {
    loop {
        let mut faults = Vec::new();
        for deck in &mut *decks {
            // Two of three subjects on average.
            if rng.u32(0..3) > 0
                && let Some(fault) = deck.draw(rng)
            {
                let seconds =
                    |rng: &mut Rng, from: u64, to: u64| Duration::from_millis(rng.u64(from * 1000..to * 1000));
                let (after, lasts) = (seconds(rng, 0, 6), seconds(rng, 8, 18));
                let lasts = if fault == Fault::TokensEnded { ERRORS + lasts } else { lasts };
                faults.push(Planned { fault, after, lasts });
            }
        }
        // A restore would take back what these write to the cluster at their end, and nobody would write it again.
        if faults.iter().any(|planned| planned.fault == Fault::EtcdRestored) {
            faults.retain(|planned| !matches!(planned.fault.subject(), Subject::Rules | Subject::Users));
        }
        if let Some(calm) = faults.iter().map(|planned| planned.fault.settle()).max() {
            return Group { faults, calm };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const TEN_MINUTES: Duration = Duration::from_mins(10);

    #[test]
    fn a_seed_always_has_the_same_plan_and_another_seed_has_another() {
        assert_eq!(plan(7, TEN_MINUTES, false), plan(7, TEN_MINUTES, false));
        assert_ne!(plan(7, TEN_MINUTES, false), plan(8, TEN_MINUTES, false));
    }

    #[test]
    fn ten_seeds_reach_every_kind() {
        let plans = (0..10).flat_map(|seed| plan(seed, TEN_MINUTES, false));
        let reached: BTreeSet<Fault> = plans.flat_map(|group| group.faults).map(|planned| planned.fault).collect();
        assert_eq!(reached.len(), Fault::ALL.len());
    }

    #[test]
    fn a_plan_fills_its_time_and_no_group_affects_a_subject_twice() {
        for seed in 0..50 {
            let groups = plan(seed, TEN_MINUTES, false);
            let last = groups.last().unwrap();
            let length: Duration = groups.iter().map(|group| group.length() + group.calm).sum();
            assert!(
                length >= TEN_MINUTES && length < TEN_MINUTES + last.length() + last.calm,
                "seed {seed}: {length:?}"
            );
            for Group { faults, calm } in groups {
                assert!(faults.iter().all(|planned| planned.fault.settle() <= calm));
                let writes = |planned: &Planned| matches!(planned.fault.subject(), Subject::Rules | Subject::Users);
                let restores = faults.iter().any(|planned| planned.fault == Fault::EtcdRestored);
                assert!(!restores || !faults.iter().any(writes));
                let subjects: Vec<Subject> = faults.iter().map(|planned| planned.fault.subject()).collect();
                assert!(Subject::ALL.iter().all(|s| subjects.iter().filter(|subject| *subject == s).count() < 2));
            }
        }
    }

    #[test]
    fn a_short_plan_has_only_faults_that_settle_soon() {
        let groups = (0..20).flat_map(|seed| plan(seed, Duration::from_secs(90), true));
        assert!(groups.flat_map(|group| group.faults).all(|planned| planned.fault.settle() == SOON));
    }
}
