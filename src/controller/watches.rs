//! The watches: on resources, and on the metadata of Secrets and ConfigMaps. Each has its own back-off.

use std::future::ready;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::oneshot::Receiver;
use tokio::time::sleep;

use super::held::held_until;
use super::watch_event::{Scope, Subject, WatchEvent, status};
use crate::cluster::{self, LIMITED_PAGE, LeanObject, LeanResource, version};
use crate::index::{Key, ObjectKind};

/// How long one watch request lasts, in seconds. Less than the read time-out of the client.
const WATCH_SECONDS: u32 = 60;
/// A page is held in memory as a whole, and its objects may be as large as etcd accepts.
const PAGE: u32 = 32;
/// Resources are smaller: their schema bounds them.
const PAGE_OF_RESOURCES: u32 = 100;

/// Events, and the watch that each comes from.
pub type WatchStream = BoxStream<'static, (Scope, WatchEvent)>;

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

/// Maps the object of an event.
fn map<K, T>(event: Event<K>, of: impl FnOnce(K) -> T) -> Event<T> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(of(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(of(object)),
        Event::Delete(object) => Event::Delete(of(object)),
    }
}

/// The settings of a watch. The API server ends it every minute, so that one whose connection has died without a word is
/// noticed by the read time-out of the client.
fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Watches what a scope covers. What it reports of objects is held until it is `known` who names them.
pub fn watch(client: &Client, scope: &Scope, selector: Option<&str>, known: Receiver<()>) -> WatchStream {
    match scope.what {
        Subject::Resources => resources(client, scope.clone(), selector),
        Subject::Objects(kind @ ObjectKind::Secret) => metadata::<Secret>(client, scope.clone(), kind, known),
        Subject::Objects(kind @ ObjectKind::ConfigMap) => metadata::<ConfigMap>(client, scope.clone(), kind, known),
    }
}

fn resources(client: &Client, scope: Scope, selector: Option<&str>) -> WatchStream {
    let config = config().page_size(PAGE_OF_RESOURCES);
    let config = selector.into_iter().fold(config, watcher::Config::labels);
    let api = api::<LeanResource>(client, scope.namespace.as_deref());
    let events = resilient(move || watcher(api.clone(), config.clone()));
    events.map(move |event| (scope.clone(), WatchEvent::Resource(event))).boxed()
}

/// Watches metadata. The API server streams the list, one object after the other. One that does not, or not within the time of
/// a watch, is asked for pages: what other objects carry may be large, and where a page of many is, for small ones.
///
/// A streamed list may be older than the last write. That does no harm here, because what is written to an object is
/// checked against its version.
fn metadata<K>(client: &Client, scope: Scope, kind: ObjectKind, known: Receiver<()>) -> WatchStream
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let api = api::<LeanObject<K>>(client, scope.namespace.as_deref());
    let events = resilient(move || {
        let paged = |objects| watcher(api.clone(), config().page_size(objects));
        let mut listing = false;
        let streamed = watcher(api.clone(), config().streaming_lists())
            .take_while(move |event| ready(!is_unable_to_stream(&mut listing, event)));
        let large_pages = paged(LIMITED_PAGE).take_while(|event| ready(!is_too_large(event)));
        streamed.chain(large_pages).chain(paged(PAGE))
    });
    let identity = |object: LeanObject<K>| (Key::of(object.meta()), version(&object));
    let events = held_until(known, events.map(move |event| event.map(|event| map(event, identity))));
    events.map(move |event| (scope.clone(), WatchEvent::Object(kind, event))).boxed()
}

/// Backs off while a watch fails, to 30 s. Only what shows that it works again ends that: the first pages of a list that
/// fails do not, nor does a list after which no watch could start because its version was too old: that lists again.
fn resilient<T, S>(make: impl Fn() -> S) -> impl Stream<Item = watcher::Result<Event<T>>>
where
    S: Stream<Item = watcher::Result<Event<T>>>,
{
    let make = move || Box::pin(make());
    let first = (make(), DefaultBackoff::default(), Duration::ZERO, false);
    stream::unfold((make, first), |(make, (mut events, mut backoff, pause, mut too_old))| async move {
        // Of no time, too, it lasts until the next millisecond.
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let event = events.next().await?;
        let works = match &event {
            Ok(Event::Apply(_) | Event::Delete(_)) => true,
            Ok(Event::InitDone) => !too_old,
            _ => false,
        };
        if works {
            backoff.reset();
            too_old = false;
        }
        let pause = match &event {
            Ok(_) => Duration::ZERO,
            Err(error) => {
                if is_too_old(error) {
                    (events, too_old) = (make(), true);
                }
                backoff.next().unwrap_or_default()
            }
        };
        Some((event, (make, (events, backoff, pause, too_old))))
    })
}

/// Whether a watch cannot start from the version that its list returned.
fn is_too_old(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// Whether a page is not read because it is too large.
fn is_too_large<K>(event: &watcher::Result<Event<K>>) -> bool {
    matches!(event, Err(watcher::Error::InitialListFailed(error)) if cluster::is_too_large(error))
}

/// Whether the API server refuses to stream a list, or began another one before the last was complete.
fn is_unable_to_stream<K>(listing: &mut bool, event: &watcher::Result<Event<K>>) -> bool {
    match event {
        Ok(Event::Init) => std::mem::replace(listing, true),
        Ok(Event::InitDone) => {
            *listing = false;
            false
        }
        Ok(_) => false,
        Err(error) => status(error).is_some_and(|status| matches!(status.code, 400 | 422)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

    use std::cell::Cell;

    use kube::core::Status;
    use tokio::time::{Instant, timeout};

    use super::*;

    fn failed(code: u16) -> watcher::Error {
        watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(Status { code, ..Status::default() })))
    }

    /// Returns how long it took until so many events of a stream came that is made of these again and again.
    async fn seconds(events: fn() -> Vec<watcher::Result<Event<u8>>>, count: usize) -> u64 {
        let started = Instant::now();
        let stream = resilient(move || stream::iter(std::iter::repeat_with(events).flatten()));
        timeout(Duration::from_hours(1), stream.take(count).collect::<Vec<_>>()).await.expect("it goes on");
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_on_a_later_page_backs_off_and_one_that_ends_does_not() {
        let fails = || vec![Ok(Event::Init), Ok(Event::InitApply(1)), Err(failed(500))];
        let waited = seconds(fails, 30).await;
        assert!(waited > 60, "{waited} s for ten lists");
        let ends = || vec![Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitDone), Err(failed(500))];
        let waited = seconds(ends, 40).await;
        assert!((5..=20).contains(&waited), "{waited} s for ten lists");
    }

    // A paused clock stands on whole milliseconds, and hides that a timer of no time waits for the next one.
    #[tokio::test]
    async fn the_events_of_a_watch_that_works_wait_for_nothing() {
        let lists = || vec![Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitApply(2)), Ok(Event::InitDone)];
        assert_eq!(seconds(lists, 2000).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn lists_after_which_no_watch_can_start_back_off() {
        let too_old = || vec![Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitDone), Err(failed(410))];
        let waited = seconds(too_old, 40).await;
        assert!(waited > 60, "{waited} s for ten lists");
        let runs_first = || vec![Ok(Event::InitDone), Ok(Event::Apply(1)), Err(failed(410))];
        let waited = seconds(runs_first, 30).await;
        assert!((5..=20).contains(&waited), "{waited} s for ten watches that ran");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_cannot_start_because_it_is_too_old_lists_again() {
        let made = Cell::new(0);
        let stream = resilient(|| {
            made.set(made.get() + 1);
            stream::iter([Ok(Event::<u8>::InitDone), Err(failed(410)), Err(failed(500))]).chain(stream::pending())
        });
        let events: Vec<_> = timeout(Duration::from_mins(1), Box::pin(stream).take(3).collect()).await.unwrap();
        assert!(matches!(events[2], Ok(Event::InitDone)), "listed again");
        assert_eq!(made.get(), 2);
    }
}
