//! Versions of Secrets that others change in what does not matter.

use super::*;

#[test]
fn a_version_that_changed_alone_is_written_after_10_minutes_or_with_the_next_write() {
    let first = reconcile_new(at(START));
    let uid = situation(at(START)).credentials.version().unwrap().uid.clone();
    let relabeled = |last: Conclusion, now: Timestamp| {
        let mut s = situation(now);
        s.credentials = Observed::Cached(Version::new(uid.clone(), "relabeled"));
        reconcile(next_situation(s, last, 1, now), now, Ok(7200), &mut 0)
    };
    let soon = relabeled(first, at(START + 60));
    assert!(!soon.changed && soon.status.credentials_version.as_deref() == Some("relabeled"));
    assert!(soon.wake <= at(START + 660));
    let later = relabeled(soon, at(START + 600));
    assert!(!later.changed, "not 10 minutes since it changed");
    let due = later.wake;
    assert_eq!(due, at(START + 660));
    let written = relabeled(later, due);
    assert!(written.changed);
    let rest = relabeled(written, at(START + 700));
    assert!(!rest.changed);
}

#[test]
fn a_target_that_is_touched_again_and_again_is_read_once_in_10_seconds() {
    let mut s = with_target(at(START));
    let (mut reads, mut now) = (0, START);
    for touch in 0..60 {
        now = START + touch;
        s.target = Observed::Cached(Version::new("target", (100 + touch).to_string()));
        let verdict = decide(&s, at(now));
        match verdict.step {
            Step::ReadTarget => {
                reads += 1;
                let live = stored(&situation(at(START)), at(START), 7200);
                s.touched(at(now));
                s.target_read(Some(live));
            }
            Step::Rest => assert!(verdict.wake <= at(now + 10), "it is read later"),
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(reads, 3 + (now - START - 2) / 10);
    // What a user asks for does not wait.
    s.target = Observed::Cached(Version::new("target", "200"));
    s.requested_at = Some("now".to_owned());
    assert!(matches!(decide(&s, at(now)).step, Step::ReadTarget));
}

#[test]
fn a_clock_that_is_set_does_not_shorten_the_time_until_a_version_is_written() {
    let mut memory = Memory::default();
    memory.reported.versions_differ_since = Some(at(START).into());
    memory.shift(SignedDuration::from_hours(3));
    assert_eq!(memory.reported.versions_differ_since, Some(at(START + 3 * 3600).into()));
}
