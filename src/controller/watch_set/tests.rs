#![allow(clippy::unwrap_used, reason = "a test may")]

use jiff::Timestamp;
use kube::runtime::watcher::{self, Event};

use super::*;

#[test]
fn a_watch_that_is_not_needed_any_more_goes_on_for_ten_minutes() {
    let readiness = Readiness::default();
    let (mut watches, scope, now) = (Watches::default(), scope(CONFIG_MAPS, None), Instant::now());
    let unneeded_since = Some(now);
    let handle = Some(AbortHandle::new_pair().0);
    watches.by_scope.insert(scope.clone(), Watch { handle, unneeded_since, ..Watch::default() });
    let started = |watches: &mut Watches, minutes| {
        watches.stop_unneeded(&readiness, now + Duration::from_mins(minutes));
        watches.is_started(&scope)
    };
    assert_eq!([9, 10].map(|minutes| started(&mut watches, minutes)), [true, false]);
}

#[test]
fn the_first_list_of_objects_is_waited_for_a_few_seconds_alone() {
    let (mut watches, now) = (Watches::default(), Instant::now());
    let watch = |listed| Watch { listed, since: Some(now), ..Watch::default() };
    let wait = |watches: &Watches, knows_all, seconds| {
        watches.wait(None, false, knows_all, now + Duration::from_secs(seconds)).map(|wait| wait.as_secs())
    };
    assert_eq!(wait(&watches, true, 60), None, "the resources are not listed");
    watches.by_scope.insert(scope(Subject::Resources, None), watch(Listed::Complete));
    watches.by_scope.insert(scope(SECRETS, None), watch(Listed::Never));
    assert_eq!([0, 2, 3, 60].map(|seconds| wait(&watches, false, seconds)), [Some(3), Some(1), Some(0), Some(0)]);
    assert_eq!(wait(&watches, true, 0), Some(0), "all that it names is known");
    // A restart of the watch does not begin it again.
    watches.stop(&scope(SECRETS, None));
    assert_eq!(wait(&watches, false, 2), Some(1));
    for listed in [Listed::Before, Listed::Complete] {
        watches.by_scope.insert(scope(SECRETS, None), watch(listed));
        assert_eq!(wait(&watches, false, 0), Some(0), "{listed:?}");
    }
}

#[test]
fn a_watch_fails_until_the_api_server_has_answered_its_list() {
    let metrics = Metrics::new(Arc::default(), || Timestamp::UNIX_EPOCH).unwrap();
    let (mut watches, readiness) = (Watches::default(), Readiness::default());
    let scope = scope(Subject::Resources, None);
    let mut after = |event| {
        watches.record(&scope, &WatchEvent::Resource(event), &metrics, &readiness);
        metrics
            .render()
            .unwrap()
            .lines()
            .any(|line| line.starts_with("arcgis_credential_watch_failing{") && line.ends_with(" 1"))
    };
    assert!(after(Err(watcher::Error::NoResourceVersion)));
    assert!(after(Ok(Event::Init)), "nothing was requested yet");
    assert!(!after(Ok(Event::InitDone)));
}
