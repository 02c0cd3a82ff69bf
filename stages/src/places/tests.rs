//! Places against a handful of actors.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Wake;

use super::*;
use crate::actor::tests::definition;
use crate::actor::{Definition, HostAddress, HostSet};
use crate::registry::directory::Directory;
use crate::registry::entry::{Hosted, Source};
use crate::registry::hosts::OneHost;

pub(super) const LARGEST: usize = 4 << 20;
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn entry(name: &str) -> Arc<Entry> {
    entry_of(&Arc::default(), name)
}

fn entry_of(host: &Arc<KnownHost>, name: &str) -> Arc<Entry> {
    let definition = definition(name);
    let id = Arc::new(definition.id.clone());
    let hosted =
        Hosted { definition: definition.into(), host_limit: 1, host: host.clone(), several: None };
    Directory::new().put(id, Source::Defined(hosted))
}

/// Places for turns; one each is for the reserve and for maintenance.
pub(super) fn places(events: usize, bytes: usize, largest: usize) -> Places {
    places_of(events, bytes, largest, Arc::default())
}

fn places_of(events: usize, bytes: usize, largest: usize, hosts: Arc<AtomicUsize>) -> Places {
    let bound = Bound { events: events + 2, bytes: bytes + 2 * largest };
    Places::new(bound, largest, PATIENCE, hosts).unwrap()
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub(super) fn enter(places: &Places, entry: &Arc<Entry>) -> Result<Place, GateEntry> {
    places.enter(entry, 1, Waker::noop())
}

#[test]
fn a_place_is_twice_the_last_state_within_limits_and_shrinks_to_what_is_kept() {
    let places = places(20, LARGEST, LARGEST);
    for (state, bytes) in [(0, SMALLEST), (9 << 10, 18 << 10), (3 << 20, LARGEST)] {
        let joe = entry("joe");
        joe.note_state(state);
        let mut place = Some(enter(&places, &joe).unwrap());
        assert_eq!(place.as_ref().unwrap().bytes, bytes);
        assert!(places.fit(&mut place, &joe, 7));
        assert_eq!(place.as_ref().unwrap().bytes, 7);
    }
    let free = places.0.free.lock().general;
    assert_eq!(free, Count::of(20, LARGEST), "all is given back");
}

#[test]
fn whoever_was_refused_is_woken_when_places_are_freed() {
    let places = places(1, LARGEST, LARGEST);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let (joe, moe) = (entry("joe"), entry("moe"));
    let place = places.enter(&joe, 1, &waker).unwrap();
    assert_eq!(places.enter(&moe, 1, &waker).unwrap_err(), GateEntry::Full);
    assert_eq!(places.enter(&joe, 1, &waker).unwrap_err(), GateEntry::Waits, "for itself");
    drop(place);
    assert_eq!(woken.0.load(SeqCst), 1, "once");
    places.enter(&moe, 1, &waker).unwrap();
    assert_eq!(woken.0.load(SeqCst), 1, "nobody waits");
}

#[test]
fn one_actor_holds_an_eighth_at_most_and_one_always() {
    let places = places(80 - 2, 64 << 20, LARGEST);
    let joe = entry("joe");
    let held: Vec<_> = std::iter::from_fn(|| enter(&places, &joe).ok()).collect();
    assert_eq!(held.len(), 10);
    drop(held);
    joe.note_state(2 << 20);
    let held: Vec<_> = std::iter::from_fn(|| enter(&places, &joe).ok()).collect();
    assert_eq!(held.len(), 2, "4 MiB each, of 72");
}

#[test]
fn maintenance_has_places_of_its_own_when_all_others_are_taken() {
    let places = places(16, 17 * SMALLEST, SMALLEST);
    let actors: Vec<_> = (0..16).map(|n| entry(&format!("a{n}"))).collect();
    let held: Vec<_> = actors.iter().map(|actor| enter(&places, actor).unwrap()).collect();
    assert!(enter(&places, &entry("other")).is_err());
    let joe = entry("joe");
    let last = places.try_maintain(&joe, SMALLEST).expect("it is kept for it");
    assert!(places.try_maintain(&joe, 0).is_none());
    drop(last);
    assert!(enter(&places, &entry("other")).is_err(), "it is still kept");
    drop(held);
    assert!(places.try_maintain(&joe, 0).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_outgrows_its_place_gets_the_reserve_one_at_a_time() {
    const LARGEST: usize = 4 * SMALLEST;
    let places = places(4, LARGEST, LARGEST);
    let (joe, moe) = (entry("joe"), entry("moe"));
    let mut first = Some(enter(&places, &joe).unwrap());
    let mut second = Some(enter(&places, &moe).unwrap());
    let others = [entry("a"), entry("b")].map(|other| enter(&places, &other).unwrap());
    assert!(!places.fit(&mut first, &joe, LARGEST));
    assert!(places.wait_to_fit(&mut first, &joe, LARGEST).await);
    let began = tokio::time::Instant::now();
    assert!(!places.wait_to_fit(&mut second, &moe, LARGEST).await);
    assert_eq!(began.elapsed(), PATIENCE);
    assert!(enter(&places, &entry("other")).is_err(), "the reserve is given back first");
    let waiting = places.wait_to_fit(&mut second, &moe, LARGEST);
    let freeing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first.take());
    };
    assert!(tokio::join!(waiting, freeing).0);
    drop((second, others));
    assert_eq!(places.0.free.lock().general, Count::of(4, LARGEST));
    let mut unexpected = None;
    assert!(places.fit(&mut unexpected, &joe, 5), "a turn that was not expected to write");
    assert_eq!(places.0.free.lock().general, Count::of(3, LARGEST - 5));
}

#[test]
fn a_shared_place_is_free_when_both_turns_are_over() {
    let places = places(1, SMALLEST, SMALLEST);
    let joe = entry("joe");
    let (init, call) = enter(&places, &joe).unwrap().share();
    let (mut init, mut call) = (Some(init), Some(call));
    assert!(places.fit(&mut init, &joe, 100) && places.fit(&mut call, &joe, SMALLEST));
    drop(call);
    assert!(enter(&places, &entry("other")).is_err());
    drop(init);
    assert!(enter(&places, &entry("other")).is_ok());
}

#[test]
fn actors_of_one_of_several_hosts_hold_as_much_as_is_free() {
    let hosts = Arc::new(AtomicUsize::new(2));
    let places = places_of(6, LARGEST, LARGEST, hosts.clone());
    let (here, there) = (Arc::default(), Arc::default());
    let mut held: Vec<_> =
        (0..3).map(|at| enter(&places, &entry_of(&here, &at.to_string())).unwrap()).collect();
    assert_eq!(enter(&places, &entry_of(&here, "3")).unwrap_err(), GateEntry::ClassFull);
    held.push(enter(&places, &entry_of(&there, "a")).unwrap());
    assert_eq!(enter(&places, &entry_of(&there, "b")).unwrap_err(), GateEntry::ClassFull);
    // Bytes count too, and those that an answer has grown by.
    held.truncate(1);
    let mut large = held.pop();
    assert!(places.fit(&mut large, &entry_of(&here, "0"), LARGEST / 2 + SMALLEST));
    assert_eq!(enter(&places, &entry_of(&here, "4")).unwrap_err(), GateEntry::ClassFull);
    enter(&places, &entry_of(&there, "c")).unwrap();
    hosts.store(1, SeqCst);
    enter(&places, &entry_of(&here, "4")).unwrap();
    drop(large);
    assert_eq!(here.places.held(), (0, 0));
    assert_eq!(places.0.free.lock().general, Count::of(6, LARGEST));
}

#[test]
fn a_place_counts_for_the_one_of_several_hosts_that_its_turn_is_for() {
    let places = places_of(6, LARGEST, LARGEST, Arc::new(AtomicUsize::new(2)));
    let directory = Directory::new();
    let hosts = HostSet::new(["a:1", "b:1"].map(HostAddress::new)).unwrap();
    let entries: Vec<_> = (0..4)
        .map(|number| {
            let one = Definition { hosts: hosts.clone(), ..definition(&number.to_string()) };
            let id = Arc::new(one.id.clone());
            directory.put(id, Source::Defined(directory.hosted(one.into()).0))
        })
        .collect();
    let all = entries[0].spec().hosted.all_hosts();
    let (a, b) = (&all[0], &all[1]);
    let enter = |entry, host: &OneHost| places.enter(entry, host.limit, Waker::noop());
    let mut held: Vec<_> = entries[..3].iter().map(|entry| enter(entry, a).unwrap()).collect();
    assert_eq!(enter(&entries[3], a).unwrap_err(), GateEntry::ClassFull);
    held.push(enter(&entries[3], b).unwrap());
    // Its turn goes to the other host.
    held[0].charge(&b.known);
    let counts = |host: &OneHost| host.known.places.held();
    assert_eq!((counts(a), counts(b)), ((2, 2 * SMALLEST), (2, 2 * SMALLEST)));
    drop(held);
    assert_eq!((counts(a), counts(b)), ((0, 0), (0, 0)));
}
