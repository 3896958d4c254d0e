//! What another writer strips from the target, while the token in it is the one that was published.

use super::*;
use crate::api::DeletionPolicy;

/// What another writer does to the target.
type Change = fn(&mut Secret);

fn annotations(secret: &mut Secret) -> &mut std::collections::BTreeMap<String, String> {
    secret.metadata.annotations.get_or_insert_default()
}

fn strip_all(secret: &mut Secret) {
    (secret.metadata.annotations, secret.metadata.labels) = (None, None);
}

const CHANGES: [Change; 5] = [
    strip_all,
    |s| drop(annotations(s).remove("credentials.arcgis.dev/token-digest")),
    |s| drop(annotations(s).remove("credentials.arcgis.dev/inputs")),
    |s| drop(annotations(s).insert("credentials.arcgis.dev/issued-at".to_owned(), "yesterday".to_owned())),
    |s| drop(annotations(s).insert("credentials.arcgis.dev/expires-at".to_owned(), "2000-01-01T00:00:00Z".to_owned())),
];

/// Returns the target with its published token, as the operator wrote it.
fn whole(s: &Situation) -> Secret {
    let plan = s.plan.as_ref().unwrap();
    let manifest = render(plan, &s.me, &published(&with_target(), at(START - 60), 7200)).manifest(plan, &s.me);
    let mut secret: Secret = serde_json::from_value(manifest.expose().clone()).unwrap();
    (secret.metadata.uid, secret.metadata.resource_version) = (Some("target".to_owned()), Some("12".to_owned()));
    secret
}

/// Returns the same resource after a restart.
fn restarted(s: Situation) -> Situation {
    let mut s = Situation { memory: Memory::default(), ..s };
    s.target = Observed::Cached(version("target", "12"));
    s.recall(at(START));
    s
}

/// Reads the target after another writer changed it.
fn read(s: &mut Situation, change: Change) {
    let mut secret = whole(s);
    change(&mut secret);
    s.target_read(Some(LiveSecret::new(secret, &s.me)));
}

fn is_ready(s: Situation, now: Timestamp) -> bool {
    let verdict = Verdict { step: Step::Rest, ..decide(&s, now) };
    let ready = conclude(s, verdict, now).status.conditions.swap_remove(0);
    (ready.status.as_str(), ready.observed_generation) == ("True", 1)
}

/// Returns the annotations that a repair leaves.
fn repaired(s: &Situation, change: Change, patch: &SecretPatch) -> Option<std::collections::BTreeMap<String, String>> {
    let mut secret = whole(s);
    change(&mut secret);
    let mut value = serde_json::to_value(&secret).unwrap();
    json_patch::merge(&mut value, patch.expose());
    serde_json::from_value::<Secret>(value).unwrap().metadata.annotations
}

#[test]
fn annotations_that_were_stripped_or_changed_are_written_again_without_a_request() {
    for change in CHANGES {
        for restart in [false, true] {
            let mut s = with_target();
            if restart {
                s = restarted(s);
            }
            read(&mut s, change);
            let verdict = decide(&s, at(START));
            let Step::Render(patch) = verdict.step else { panic!("{:?}", verdict.step) };
            assert_eq!(repaired(&s, change, &patch), whole(&s).metadata.annotations);
            s.rendered(version("target", "13"), at(START));
            assert!(matches!(decide(&s, at(START)).step, Step::Rest));
            assert!(is_ready(s, at(START)));
        }
    }
}

#[test]
fn from_the_fourth_time_on_they_are_written_with_back_off_and_the_token_stays_valid() {
    let mut s = with_target();
    let mut repairs = 0;
    for second in (0..600).step_by(10) {
        let now = at(START + second);
        read(&mut s, strip_all);
        match decide(&s, now).step {
            Step::Render(_) => {
                s.rendered(version("target", "12"), now);
                repairs += 1;
            }
            Step::Rest => {}
            step => panic!("{second}: {step:?}"),
        }
        let mut shown = with_target();
        (shown.memory, shown.status) = (s.memory.clone(), s.status.clone());
        read(&mut shown, strip_all);
        assert!(is_ready(shown, now), "{second}");
    }
    assert!((4..=14).contains(&repairs), "{repairs}");
}

#[test]
fn another_token_is_damage_with_or_without_annotations() {
    fn replace(secret: &mut Secret) {
        let other = k8s_openapi::ByteString(b"other".to_vec());
        secret.data.get_or_insert_default().insert("access_token".to_owned(), other);
    }
    let other: [Change; 2] = [replace, |s| {
        strip_all(s);
        replace(s);
    }];
    for change in other {
        let mut s = with_target();
        read(&mut s, change);
        assert_eq!(s.owed(at(START)).trigger, Trigger::Gone);
    }
}

#[test]
fn what_a_token_was_requested_with_is_remembered_without_its_annotation() {
    let requested = |change: fn(&mut Situation)| {
        let mut s = with_target();
        change(&mut s);
        read(&mut s, strip_all);
        matches!(decide(&s, at(START)).step, Step::AcquirePermit | Step::Request(_))
    };
    let relabel = |s: &mut Situation| {
        s.generation = 2;
        s.plan.as_mut().unwrap().target.labels.insert("team".to_owned(), "maps".to_owned());
    };
    assert!(!requested(relabel), "another generation needs no other token");
    assert!(requested(|s| (s.generation, s.plan.as_mut().unwrap().lifetime) = (2, Some(3600))));
    assert!(
        requested(|s| {
            s.memory = Memory::default();
            s.generation = 2;
        }),
        "after a restart nobody knows"
    );
}

#[test]
fn credentials_that_no_watch_has_reported_are_read_before_their_fingerprint_is_written() {
    let mut s = with_target();
    s.credentials = Observed::Unknown;
    let mut s = restarted(s);
    read(&mut s, strip_all);
    assert!(matches!(decide(&s, at(START)).step, Step::ReadCredentials));
    s.credentials_read(Some((version("u", "1"), Ok(7))));
    let verdict = decide(&s, at(START));
    let Step::Render(patch) = verdict.step else { panic!("{:?}", verdict.step) };
    assert_eq!(repaired(&s, strip_all, &patch), whole(&s).metadata.annotations);
    s.rendered(version("target", "13"), at(START));
    assert!(matches!(decide(&s, at(START)).step, Step::Rest));
}

#[test]
fn without_its_marks_a_target_is_owned_by_reference_alone() {
    let reason = |policy: DeletionPolicy| {
        let mut s = with_target();
        s.plan.as_mut().unwrap().target.policy = policy;
        read(&mut s, strip_all);
        decide(&s, at(START)).problem.map(|problem| problem.reason)
    };
    assert_eq!(reason(DeletionPolicy::Delete), None);
    assert_eq!(reason(DeletionPolicy::Retain), Some(Reason::TargetNotOwned));
}

#[test]
fn a_status_without_a_digest_gets_it_with_the_next_write() {
    let reported = |digest: Option<&str>| {
        let mut s = with_target();
        s.status.token.as_mut().unwrap().digest = digest.map(str::to_owned);
        s.status.target_version = Some("12".to_owned());
        let mut s = restarted(s);
        read(&mut s, |_| {});
        let verdict = decide(&s, at(START));
        assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
        let conclusion = conclude(s, verdict, at(START));
        assert_eq!(conclusion.status.token.unwrap().digest.unwrap().len(), 64);
        conclusion.changed
    };
    assert!(!reported(None), "an older version or CRD did not store it");
    assert!(reported(Some("0")), "of another token");
}
