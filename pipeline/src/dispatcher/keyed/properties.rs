//! Properties: what is true of the keyed machine after any steps.

use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::time::Instant;

use super::model::{Mail, Model, Step, steps};
use super::*;
use crate::share::is_fair;

proptest! {
    /// The machine grants exactly what the model allows. Every event that was pushed and not removed is
    /// granted once, in order per key.
    #[test]
    fn the_machine_does_what_the_model_allows_and_starves_nobody(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        for class in 0..4 {
            model.apply(Step::Limit { class, limit: usize::MAX });
        }
        for key in 0..6 {
            model.apply(Step::ResumeKey { key });
        }
        model.apply(Step::Subscribe { max: 3, min: 0 });
        while !model.machine.is_idle() {
            let counts = |model: &Model| {
                let held = model.places.0.lock().len();
                (model.machine.queued(), model.out.len(), model.parked.len(), held)
            };
            let before = counts(&model);
            model.apply(Step::Grant);
            model.apply(Step::Release { which: 0 });
            model.apply(Step::Forget { which: 0 });
            model.apply(Step::Free { which: 0 });
            prop_assert_ne!(before, counts(&model), "nothing moves any more");
        }
        prop_assert!(model.queues.values().all(VecDeque::is_empty));
    }

    /// With all keys full and one worker, the keys of a class take turns, and so do the classes.
    #[test]
    fn keys_take_turns_within_a_class_and_classes_with_each_other(
        keys in 1u32..5, classes in 1u32..4, rounds in 1u32..5,
    ) {
        let mut machine: Keyed<(u32, u32), (u32, u32)> = Keyed::new(100);
        for class in 0..classes {
            for key in 0..keys {
                for _ in 0..rounds {
                    prop_assert!(machine.push(&(class, key), (class, key), class, false).is_ok());
                }
            }
        }
        let id = SubscriberId(0);
        machine.subscribe(id, Account::new(1, 0, true));
        machine.open(id);
        let mut seen = Vec::new();
        while let Some(grant) = machine.grant() {
            seen.push(grant.event);
            machine.release(grant.held);
        }
        let mut expected = Vec::new();
        for _ in 0..rounds {
            for key in 0..keys {
                expected.extend((0..classes).map(|class| (class, key)));
            }
        }
        prop_assert_eq!(seen, expected);
    }

    /// Some classes take all they can get. Once what they hold has been given back and taken anew, each leaves as much free
    /// as it holds: n of them leave at least 1 of n + 1 parts. One class alone takes everything.
    #[test]
    fn greedy_classes_leave_a_part_of_the_demand(demand in 1usize..40, classes in 1u32..6) {
        let mut machine: Keyed<u32, u32> = Keyed::new(usize::MAX);
        let id = SubscriberId(0);
        machine.subscribe(id, Account::new(demand, demand - 1, true));
        machine.open(id);
        for class in 0..classes {
            machine.set_class_limit(class, 1_000);
            for number in 0..200 {
                prop_assert!(machine.push(&(class * 1_000 + number), class, class, false).is_ok());
            }
        }
        let mut held = VecDeque::new();
        // A turn ends for each that can begin, the oldest first.
        for round in 0..4 * demand {
            while let Some(grant) = machine.grant() {
                held.push_back(grant);
            }
            if classes > 1 && round > 3 * demand {
                for class in 0..classes {
                    let of_class = held.iter().filter(|grant| grant.event == class).count();
                    let free = demand - held.len();
                    prop_assert!(is_fair(of_class, free), "{of_class} of {demand}, {free} free");
                }
            }
            let Some(oldest) = held.pop_front() else { break };
            let class = oldest.event;
            machine.release(oldest.held);
            let key = 1_000_000 + u32::try_from(round).unwrap();
            prop_assert!(machine.push(&key, class, class, false).is_ok());
        }
        while let Some(grant) = machine.grant() {
            held.push_back(grant);
        }
        if classes == 1 {
            prop_assert_eq!(held.len(), demand, "one class uses everything");
        } else if demand > 2 * classes as usize {
            let free = demand - held.len();
            prop_assert!(free * (classes as usize + 1) >= demand, "{free} of {demand} are left");
        }
    }

    /// Clearing returns each queued event once. Events in flight may be released afterwards.
    #[test]
    fn clearing_hands_back_all_that_is_queued(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        let mut cleared = model.machine.clear();
        let queued = model.queues.values().flatten().map(|(mail, _)| *mail);
        let mut expected: Vec<Mail> = queued.collect();
        cleared.sort();
        expected.sort();
        prop_assert_eq!(cleared, expected);
        for (grant, _) in model.out {
            model.machine.release(grant.held);
        }
        for (parked, _) in model.parked {
            model.machine.release_parked(parked);
        }
        prop_assert!(model.machine.is_idle());
        prop_assert_eq!(model.machine.table.len(), 0);
    }
}

#[test]
fn only_so_many_keys_are_paused_and_an_end_of_the_pauses_leaves_no_memory_behind() {
    let mut machine: Keyed<usize, u32> = Keyed::new(1);
    let now = Instant::now();
    for key in 0..MAX_PAUSED {
        assert!(machine.pause(&key, now));
    }
    assert!(!machine.pause(&MAX_PAUSED, now));
    assert!(machine.pause(&7, now), "it is paused already");
    assert!(machine.resume_key(&7));
    assert!(machine.pause(&MAX_PAUSED, now));
    assert!(machine.is_idle(), "a pause is nothing to wait for");
    machine.push(&9, 9, 0, false).unwrap();
    assert_eq!(machine.end_pauses(), [9]);
    assert!(machine.is_idle());
    assert_eq!((machine.table.len(), machine.slots.occupied().len()), (0, 0));
}

#[test]
fn a_burst_of_keys_leaves_no_memory_behind() {
    let mut machine: Keyed<u32, u32> = Keyed::new(1);
    let pushed: Vec<EventId> =
        (0..10_000).map(|key| machine.push(&key, key, key, false).unwrap()).collect();
    for (key, id) in (0..).zip(pushed) {
        assert_eq!(machine.remove(&key, id), Some(key));
    }
    assert!(machine.is_idle());
    assert!(machine.classes.len() <= KEPT_CLASSES);
    assert_eq!((machine.table.len(), machine.slots.occupied().len()), (0, 0));
}

#[test]
fn a_key_that_leaves_the_line_for_its_share_is_granted_once_that_grows() {
    let mut model = Model::new();
    for class in [0, 1] {
        model.apply(Step::Limit { class, limit: 2 });
    }
    model.places.0.lock().extend([7; 3]);
    let push = |key, class| Step::Push { key, class, exempt: false, gone: false };
    for step in [Step::Subscribe { max: 5, min: 4 }, push(2, 0), Step::Grant] {
        model.apply(step);
    }
    // Key 2 waits for a place. Its class has one event in flight, the other class two.
    for step in [push(1, 0), push(3, 1), push(5, 1), Step::Grant, Step::Grant, Step::Grant] {
        model.apply(step);
    }
    assert_eq!(model.out.len(), 3);
    for step in [Step::Free { which: 0 }, Step::Grant] {
        model.apply(step);
    }
    assert_eq!(model.out.len(), 3, "two would be more than what is left");
    for step in [Step::Release { which: 2 }, Step::Release { which: 1 }, Step::Grant] {
        model.apply(step);
    }
    assert_eq!(model.out.len(), 2);
}
