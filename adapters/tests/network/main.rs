//! The whole proxy on a simulated network: clients, ingress, stages and host client. TCP loses, holds and
//! delays; machines crash and return.
//!
//! Every simulation ends in the same verdict: each call ended exactly once and in time (I2) and ran at most
//! once; an actor's calls ran one at a time, in the order of admission (I3); its state records each
//! acknowledged call in its place. A seed decides calls, faults and delays, but not the jitter of retries,
//! so a seed narrows a failure down but may not repeat it. In [`simulation`] it decides everything.

mod wires;
mod call;
mod facts;
mod actors;
mod proxy;
mod caller;
mod faults;
mod verdict;
mod revisions;
mod schedules;
mod scene;
mod sabotage;
mod simulation;
mod wire_bus;
mod members;

#[path = "../support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use caller::Caller;
use facts::Outcome;
use faults::Event;
use scene::Scene;

/// Simulations of each scene.
const SEEDS: std::ops::Range<u64> = 0..8;
/// Simulations of whatever may happen: the same in each run, and new ones.
const KNOWN_SEEDS: std::ops::Range<u64> = 0..40;
const FRESH_SEEDS: u64 = 10;
/// How long there are faults in each of them.
const FAULTS: Duration = millis(2_500);
/// Connections of each client in them.
const CONNECTIONS: u64 = 5;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Adds a client with one connection for each of these actors, each of which makes one call; what the calls came to.
fn calls_at_once(
    scene: &mut Scene,
    actors: &'static [&'static str],
    takes: Duration,
) -> Rc<RefCell<Vec<Outcome>>> {
    let outcomes = Rc::<RefCell<Vec<Outcome>>>::default();
    let (facts, kept) = (scene.facts().clone(), outcomes.clone());
    scene.machine("sdk", async move {
        let calls = actors.iter().map(|actor| {
            let mut caller = Caller::new(&facts);
            async move { caller.add(actor, takes).await }
        });
        kept.replace(join_all(calls).await);
    });
    outcomes
}

/// The places at which calls were acknowledged, sorted; each of them must have been.
fn places(outcomes: &[Outcome]) -> Vec<usize> {
    let place = |outcome: &Outcome| match outcome {
        Outcome::Acknowledged(place) => *place,
        other => panic!("not acknowledged: {other:?}"),
    };
    let places: BTreeSet<_> = outcomes.iter().map(place).collect();
    places.into_iter().collect()
}

fn statuses(outcomes: &[Outcome]) -> Vec<u16> {
    let status = |outcome: &Outcome| match outcome {
        Outcome::Refused(status, _) => *status,
        Outcome::Acknowledged(_) => 200,
        other => panic!("no answer: {other:?}"),
    };
    outcomes.iter().map(status).collect()
}

#[test]
fn calls_cut_off_from_their_host_end_with_a_typed_error_and_the_actors_go_on() {
    for seed in SEEDS {
        let mut scene = Scene::new(seed, &["a", "b"]);
        let outcomes = calls_at_once(&mut scene, &["a", "a", "a", "b"], millis(200));
        let cut = scene.now() + millis(150);
        scene.run(&[(cut, Event::Partition), (cut + millis(3_000), Event::Repair)]);
        let mut statuses = statuses(&outcomes.borrow());
        statuses.sort_unstable();
        // Two run and are never heard of again; those behind the first get no connection until it is too late.
        assert!(statuses.iter().all(|status| matches!(status, 502 | 504)), "{statuses:?}");
        let ran = scene.facts().read(|known| known.executed.len());
        assert_eq!(ran, 2, "each actor ran its first call and no other");
        scene.judge();
    }
}

#[test]
fn calls_that_a_host_refuses_wait_and_run_in_order_once_it_listens() {
    for seed in SEEDS {
        for (down, up) in
            [(Event::StopHost, Event::StartHost), (Event::CrashHost, Event::BounceHost)]
        {
            let mut scene = Scene::new(seed, &["a"]);
            let begin = scene.now();
            // A tenth of what calls may wait: pauses between tries are random, also in a simulation.
            let schedule = [(begin, down), (begin + millis(100), up)];
            let outcomes = calls_at_once(&mut scene, &["a"; 8], millis(10));
            scene.run(&schedule);
            assert_eq!(places(&outcomes.borrow()), (1..=8).collect::<Vec<_>>());
            scene.judge();
        }
    }
}

#[test]
fn a_call_whose_host_goes_down_may_have_run_and_is_not_sent_again() {
    for seed in SEEDS {
        for (down, up) in
            [(Event::StopHost, Event::StartHost), (Event::CrashHost, Event::BounceHost)]
        {
            let mut scene = Scene::new(seed, &["a"]);
            let outcomes = calls_at_once(&mut scene, &["a"; 3], millis(300));
            let begin = scene.now() + millis(200);
            scene.run(&[(begin, down), (begin + millis(150), up)]);
            let mut statuses = statuses(&outcomes.borrow());
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 200, 502], "the one that ran, and two that waited");
            scene.judge();
        }
    }
}

#[test]
fn a_client_that_hangs_up_takes_back_what_waits_and_not_what_runs() {
    for seed in SEEDS {
        let mut scene = Scene::new(seed, &["a"]);
        let facts = scene.facts().clone();
        scene.machine("sdk", async move {
            let mut callers: Vec<_> = (0..3).map(|_| Caller::new(&facts)).collect();
            let [first, second, third] = &mut callers[..] else { panic!("three") };
            let runs = first.add_within("a", millis(400), millis(200));
            let waits = async {
                sleep(millis(100)).await;
                second.add_within("a", millis(10), millis(100)).await
            };
            let comes_last = async {
                sleep(millis(150)).await;
                third.add("a", millis(10)).await
            };
            let (runs, waits, last) = tokio::join!(runs, waits, comes_last);
            assert_eq!((&runs.1, &waits.1), (&Outcome::Abandoned, &Outcome::Abandoned));
            assert_eq!(last, Outcome::Acknowledged(2), "what ran is in the state");
            let ran = |id| facts.read(|known| known.calls[&id].executions);
            assert_eq!((ran(runs.0), ran(waits.0)), (1, 0));
        });
        scene.run(&[]);
        scene.judge();
    }
}

#[test]
fn slow_links_and_held_packets_cost_time_and_nothing_else() {
    for seed in SEEDS {
        let mut scene = Scene::new(seed, &["a", "b"]);
        let actors = &["a", "b", "a", "b", "a", "b"];
        let outcomes = calls_at_once(&mut scene, actors, millis(5));
        let begin = scene.now();
        scene.run(&[
            (begin, Event::Slow(millis(60))),
            (begin + millis(15), Event::HoldClients),
            (begin + millis(200), Event::ReleaseClients),
            (begin + millis(250), Event::Hold),
            (begin + millis(350), Event::Release),
            (begin + millis(400), Event::HoldClients),
            (begin + millis(550), Event::ReleaseClients),
        ]);
        assert_eq!(places(&outcomes.borrow()), [1, 2, 3]);
        scene.judge();
    }
}

#[test]
fn a_proxy_that_crashes_comes_back_with_every_acknowledged_call() {
    for seed in SEEDS {
        let mut scene = Scene::new(seed, &["a", "b"]);
        for client in ["sdk-1", "sdk-2", "sdk-3"] {
            scene.client(client, async |caller| {
                for number in 0..20 {
                    caller.add(["a", "b"][number % 2], millis(10)).await;
                }
            });
        }
        let begin = scene.now();
        scene.run(&[
            (begin + millis(300), Event::CrashProxy),
            (begin + millis(450), Event::BounceProxy),
            (begin + millis(700), Event::CrashProxy),
            (begin + millis(800), Event::BounceProxy),
        ]);
        let acknowledged = scene.facts().read(|known| {
            known.calls.values().filter(|facts| facts.acknowledged().is_some()).count()
        });
        assert!(acknowledged >= 60 - 2 * 3, "at most those in flight are lost: {acknowledged}");
        scene.judge();
    }
}

/// Clients that call these actors, some of them without patience, until some time; each with several connections.
fn impatient_clients(
    scene: &mut Scene,
    random: &mut StdRng,
    actors: &'static [&'static str],
    until: Duration,
) {
    for client in ["sdk-1", "sdk-2"] {
        let facts = scene.facts().clone();
        let seeds: Vec<u64> = (0..CONNECTIONS).map(|_| random.random()).collect();
        scene.machine(client, async move {
            let callers = seeds.into_iter().map(async |seed| {
                let mut random = StdRng::seed_from_u64(seed);
                let mut caller = Caller::new(&facts);
                while turmoil::sim_elapsed().expect("inside the simulation") < until {
                    let actor = actors[random.random_range(0..actors.len())];
                    let takes = millis(random.random_range(0..50));
                    if random.random_bool(0.15) {
                        let patience = millis(random.random_range(0..120));
                        caller.add_within(actor, takes, patience).await;
                    } else {
                        caller.add(actor, takes).await;
                    }
                    sleep(millis(random.random_range(0..40))).await;
                }
            });
            join_all(callers).await;
        });
    }
}

#[test]
fn whatever_happens_each_call_ends_once_and_runs_at_most_once_and_in_order() {
    let mut ends = BTreeMap::<String, usize>::new();
    let fresh = (0..FRESH_SEEDS).map(|_| rand::random());
    for seed in KNOWN_SEEDS.chain(fresh) {
        let mut scene = Scene::new(seed, &["a", "b", "brief"]);
        let mut random = StdRng::seed_from_u64(seed);
        let until = scene.now() + FAULTS;
        impatient_clients(&mut scene, &mut random, &["a", "b", "brief"], until);
        let schedule = faults::random(&mut random, scene.now(), until);
        eprintln!("{schedule:?}");
        scene.run(&schedule);
        scene.facts().read(|known| {
            for outcome in known.calls.values().flat_map(|facts| &facts.outcomes) {
                let end = match outcome {
                    Outcome::Acknowledged(_) => "acknowledged".into(),
                    Outcome::Refused(status, _) => status.to_string(),
                    other => format!("{other:?}"),
                };
                *ends.entry(end).or_default() += 1;
            }
        });
        scene.judge();
    }
    eprintln!("{ends:?}");
    // Faults that end no call would show nothing.
    for end in ["acknowledged", "502", "504", "Lost", "Abandoned"] {
        assert!(ends.get(end).is_some_and(|count| *count > 10), "hardly a call ended so: {end}");
    }
}
