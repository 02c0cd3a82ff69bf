//! Places of a buffer: bounds, waiting, closing and shares.

use super::*;
use futures_util::poll;

fn metrics() -> ProducerMetrics {
    ProducerMetrics::new("test")
}

#[test]
fn the_capacity_is_bounded_in_events_and_in_bytes() {
    let capacity = Capacity::new(Bound { events: 2, bytes: 10 }, Full::Shed);
    let first = capacity.try_reserve(8, None).unwrap();
    assert_eq!(capacity.try_reserve(3, None).unwrap_err(), Refused::Full);
    let second = capacity.try_reserve(2, None).unwrap();
    assert_eq!(capacity.try_reserve(0, None).unwrap_err(), Refused::Full);
    drop(first);
    assert_eq!(capacity.try_reserve(11, None).unwrap_err(), Refused::TooLarge);
    let third = capacity.try_reserve(8, None).unwrap();
    drop((second, third));
    assert_eq!(capacity.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_unused_capacity_is_woken_by_the_last_place() {
    let capacity = Capacity::new(Bound { events: 2, bytes: 10 }, Full::Shed);
    capacity.unused().await;
    let first = capacity.try_reserve(8, None).unwrap();
    let last = capacity.try_reserve(0, None).unwrap();
    let mut unused = pin!(capacity.unused());
    assert!(poll!(&mut unused).is_pending());
    drop(first);
    assert!(poll!(&mut unused).is_pending());
    drop(last);
    unused.await;
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_its_limit_and_a_refusal_leaves_nothing_taken() {
    let limit = Duration::from_secs(3);
    let capacity = Capacity::new(Bound { events: 5, bytes: 10 }, Full::Wait(limit));
    let held = capacity.try_reserve(10, None).unwrap();
    let started = Instant::now();
    assert_eq!(capacity.reserve(1, None, &metrics()).await.unwrap_err(), Refused::Full);
    assert_eq!(started.elapsed(), limit);
    assert_eq!(capacity.used(), 1);
    drop(held);
    assert_eq!(capacity.reserve(10, None, &metrics()).await.unwrap().bytes(), 10);
}

#[tokio::test(start_paused = true)]
async fn places_go_to_waiting_callers_in_order_and_a_cancelled_one_leaves_the_queue() {
    let capacity =
        Capacity::new(Bound { events: 1, bytes: 10 }, Full::Wait(Duration::from_secs(9)));
    let metrics = metrics();
    let held = capacity.try_reserve(1, None).unwrap();
    let mut first = Box::pin(capacity.reserve(1, None, &metrics));
    let mut second = pin!(capacity.reserve(1, None, &metrics));
    let mut third = pin!(capacity.reserve(1, None, &metrics));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    assert!(poll!(&mut third).is_pending());
    drop(first);
    drop(held);
    assert_eq!(capacity.try_reserve(1, None).unwrap_err(), Refused::Full, "the place is promised");
    assert!(poll!(&mut third).is_pending());
    drop(second.await.unwrap());
    drop(third.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_waiting_callers_and_keeps_taken_places() {
    let capacity = Capacity::new(Bound { events: 1, bytes: 1 }, Full::Wait(Duration::from_secs(9)));
    let metrics = metrics();
    let held = capacity.try_reserve(1, None).unwrap();
    let mut waiting = pin!(capacity.reserve(1, None, &metrics));
    assert!(poll!(&mut waiting).is_pending());
    capacity.close();
    assert_eq!(waiting.await.unwrap_err(), Refused::Closed);
    drop(held);
    assert_eq!(capacity.try_reserve(1, None).unwrap_err(), Refused::Closed);
    assert_eq!(capacity.used(), 0);
}

fn shared(events: usize, bytes: usize, full: Full) -> (Arc<Capacity>, Arc<Share>, Arc<Share>) {
    let capacity = Capacity::new(Bound { events, bytes }, full);
    capacity.set_shared(true);
    (capacity, Arc::default(), Arc::default())
}

#[test]
fn one_of_several_holds_as_many_places_and_bytes_as_are_left_free() {
    let (capacity, full_key, other) = shared(8, 100, Full::Shed);
    let held: Vec<_> =
        std::iter::from_fn(|| capacity.try_reserve(1, Some(&full_key)).ok()).collect();
    assert_eq!(held.len(), 4, "half of the places");
    let second: Vec<_> =
        std::iter::from_fn(|| capacity.try_reserve(40, Some(&other)).ok()).collect();
    assert_eq!(second.len(), 1, "80 bytes are more than is left");
    let error = capacity.try_reserve(40, Some(&other)).unwrap_err();
    assert_eq!(error, Refused::ShareFull);
    assert_eq!((capacity.used(), other.events()), (5, 1), "a refusal leaves nothing taken");
    drop((held, second));
    capacity.set_shared(false);
    let alone: Vec<_> =
        std::iter::from_fn(|| capacity.try_reserve(0, Some(&full_key)).ok()).collect();
    assert_eq!(alone.len(), 8);
    drop(alone);
    assert_eq!((capacity.used(), full_key.events()), (0, 0));
}

#[test]
fn a_place_can_change_its_share() {
    let (capacity, one, other) = shared(8, 100, Full::Shed);
    let mut permit = capacity.try_reserve(10, Some(&one)).unwrap();
    permit.charge(&other);
    assert_eq!((one.events(), other.events()), (0, 1));
    drop(permit);
    assert_eq!((other.events(), capacity.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_full_share_is_served_when_it_has_given_something_back() {
    let limit = Duration::from_secs(3);
    let (capacity, full_key, _) = shared(4, 10, Full::Wait(limit));
    let metrics = metrics();
    let held = capacity.try_reserve(0, Some(&full_key)).unwrap();
    let more = capacity.try_reserve(0, Some(&full_key)).unwrap();
    let mut waiting = pin!(capacity.reserve(0, Some(&full_key), &metrics));
    assert!(poll!(&mut waiting).is_pending());
    assert!(poll!(&mut waiting).is_pending(), "it woke itself");
    drop(held);
    drop(waiting.await.unwrap());
    let last = capacity.try_reserve(0, Some(&full_key)).unwrap();
    let started = Instant::now();
    let refused = capacity.reserve(0, Some(&full_key), &metrics).await.unwrap_err();
    assert_eq!((refused, started.elapsed()), (Refused::ShareFull, limit));
    drop((more, last));
    assert_eq!((capacity.used(), full_key.events()), (0, 0));
}
