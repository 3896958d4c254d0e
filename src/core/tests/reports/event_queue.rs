//! Which events are dropped when too many wait.

use super::*;

fn drained(mut queue: EventQueue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn events_are_sent_in_their_order() {
    let mut queue = EventQueue::default();
    assert!((0..1000).all(|event| queue.push(event % 3 == 0, event).is_none()));
    assert_eq!(drained(queue), (0..1000).collect::<Vec<_>>());
}

#[test]
fn of_more_than_a_thousand_the_oldest_normal_and_then_the_oldest_warning_is_dropped() {
    let mut queue = EventQueue::default();
    // Two of the thousand are no warnings.
    assert!((0..1000).all(|event| queue.push(![5, 7].contains(&event), event).is_none()));
    let dropped: Vec<_> = (1000..1004).map(|event| queue.push(true, event)).collect();
    assert_eq!(dropped, [Some(5), Some(7), Some(0), Some(1)]);
    assert_eq!(queue.push(false, 1004), Some(1004), "the only one that is no warning");
    assert_eq!(queue.pop(), Some(2));
    assert_eq!(queue.push(true, 1005), None, "there is room again");
    assert_eq!(drained(queue).len(), 1000);
}

proptest! {
    #[test]
    fn at_most_a_thousand_wait_and_what_is_left_keeps_its_order(warnings in proptest::collection::vec(any::<bool>(), 0..3000)) {
        let mut queue = EventQueue::default();
        let dropped = warnings.iter().zip(0..).filter_map(|(warning, event)| queue.push(*warning, event)).count();
        let left = drained(queue);
        prop_assert_eq!(left.len(), warnings.len().min(1000));
        prop_assert_eq!(left.len() + dropped, warnings.len());
        prop_assert!(left.is_sorted());
    }
}
