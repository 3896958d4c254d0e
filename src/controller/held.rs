//! A watch that begins before the resources are known that name its objects.

use std::collections::VecDeque;

use futures::{Stream, StreamExt, stream};
use kube::runtime::watcher::{self, Event};
use tokio::select;
use tokio::sync::oneshot::Receiver;

/// How many events are held. What comes after them waits in the API server.
const HELD: usize = 65_536;

/// What a watch has reported so far.
struct Held<T> {
    events: VecDeque<Event<T>>,
    begun: bool,
    complete: bool,
}

impl<T> Held<T> {
    fn new() -> Self {
        Self { events: VecDeque::new(), begun: false, complete: false }
    }

    /// Holds an event. An error is not held: what was listed before it is listed again.
    fn add(&mut self, event: watcher::Result<Event<T>>) -> Option<watcher::Error> {
        match event {
            Ok(Event::Init) => *self = Self { begun: true, ..Self::new() },
            Ok(Event::InitDone) => self.complete = true,
            Ok(event) => self.events.push_back(event),
            Err(error) => {
                *self = Self::new();
                return Some(error);
            }
        }
        None
    }

    /// Returns the events as of a list that begins now. What changed since it began belongs to it: else an object that was
    /// created meanwhile would be absent for a moment.
    fn release(mut self) -> VecDeque<Event<T>> {
        if self.begun {
            self.events.push_front(Event::Init);
        }
        if self.complete {
            self.events.push_back(Event::InitDone);
        }
        self.events
    }
}

/// Holds what a watch reports until `known` is sent or dropped. Errors are reported at once.
pub fn held_until<T>(
    known: Receiver<()>,
    events: impl Stream<Item = watcher::Result<Event<T>>>,
) -> impl Stream<Item = watcher::Result<Event<T>>> {
    let state = (Some((known, Held::new())), VecDeque::new(), Box::pin(events));
    stream::unfold(state, |(mut holding, mut released, mut events)| async move {
        while let Some((known, held)) = &mut holding {
            select! {
                biased;
                _ = known => break,
                event = events.next(), if held.events.len() < HELD => if let Some(error) = held.add(event?) {
                    return Some((Err(error), (holding, released, events)));
                },
            }
        }
        if let Some((_, held)) = holding.take() {
            released = held.release();
        }
        if let Some(event) = released.pop_front() {
            return Some((Ok(event), (None, released, events)));
        }
        // An empty queue keeps its room, here until the next event.
        drop(released);
        Some((events.next().await?, (None, VecDeque::new(), events)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use futures::FutureExt;
    use futures::channel::mpsc::unbounded;
    use tokio::sync::oneshot;

    use super::*;

    /// What comes out of it without waiting.
    fn shown(stream: &mut (impl Stream<Item = watcher::Result<Event<u32>>> + Unpin)) -> Vec<String> {
        std::iter::from_fn(|| stream.next().now_or_never().flatten())
            .map(|event| event.map_or("error".to_owned(), |event| format!("{event:?}")))
            .collect()
    }

    #[test]
    fn what_is_listed_is_held_in_its_order_until_the_resources_are_known() {
        let (sender, events) = unbounded();
        let (known, wait) = oneshot::channel();
        let mut stream = Box::pin(held_until(wait, events));
        let send = |event| sender.unbounded_send(event).unwrap();
        for event in [Event::Init, Event::InitApply(1), Event::InitDone, Event::Apply(2), Event::Delete(1)] {
            send(Ok(event));
        }
        assert_eq!(shown(&mut stream), [""; 0]);
        known.send(()).unwrap();
        // What was created and deleted meanwhile belongs to the list.
        assert_eq!(shown(&mut stream), ["Init", "InitApply(1)", "Apply(2)", "Delete(1)", "InitDone"]);
        send(Ok(Event::Delete(2)));
        assert_eq!(shown(&mut stream), ["Delete(2)"]);
    }

    #[test]
    fn a_list_that_fails_meanwhile_is_reported_and_what_it_returned_is_dropped() {
        let (sender, events) = unbounded();
        let (known, wait) = oneshot::channel();
        let mut stream = Box::pin(held_until(wait, events));
        let again = [Ok(Event::Init), Ok(Event::InitApply(2))];
        let failed = [Ok(Event::Init), Ok(Event::InitApply(1)), Err(watcher::Error::NoResourceVersion)];
        for event in failed.into_iter().chain(again) {
            sender.unbounded_send(event).unwrap();
        }
        assert_eq!(shown(&mut stream), ["error"]);
        drop(known);
        assert_eq!(shown(&mut stream), ["Init", "InitApply(2)"]);
        sender.unbounded_send(Ok(Event::InitDone)).unwrap();
        assert_eq!(shown(&mut stream), ["InitDone"]);
    }

    #[test]
    fn no_more_is_held_than_fits_into_memory() {
        let (sender, events) = unbounded();
        let (known, wait) = oneshot::channel();
        let counted = std::cell::Cell::new(0);
        let mut stream = Box::pin(held_until(wait, events.inspect(|_| counted.set(counted.get() + 1))));
        for n in 0..70_000 {
            sender.unbounded_send(Ok(Event::InitApply(n))).unwrap();
        }
        assert_eq!((shown(&mut stream).len(), counted.get()), (0, HELD));
        known.send(()).unwrap();
        assert_eq!((shown(&mut stream).len(), counted.get()), (70_000, 70_000));
    }
}
