//! Random interleavings of calls, store failures, panics, refused connections, evictions, deactivations and aborted callers,
//! against a simple model of a counter. Acknowledged counts survive a reload, no acknowledged number is returned twice, and no
//! count exceeds the attempts.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::error::Error;
use tidegate_stages::history::Interval;
use tidegate_stages::invocation::{ActorInvocationResponse, Invocation, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StateStore, StoreError};
use tidegate_stages::rules::{Durability, Revisions};
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

const NAMES: [&str; 3] = ["a", "b", "c"];
const STEPS: u64 = 120;
const SEEDS: u64 = 150;

/// What the callers know of one actor.
#[derive(Default)]
struct Known {
    /// Calls that may have counted. Excludes calls whose error says that they had no effect.
    attempts: u64,
    acknowledged: BTreeSet<u64>,
    doubled: Vec<u64>,
}

fn fault(random: &mut Random) -> SaveFault {
    let text = "as the test wants it".to_owned();
    match random.below(8) {
        0 => SaveFault::Lose(StoreError::Unavailable(text)),
        1 => SaveFault::Lose(StoreError::Unknown(text)),
        2 => SaveFault::WriteAndFail(StoreError::Unknown(text)),
        3 => SaveFault::LoseFirst(StoreError::Full(text)),
        4..=6 => SaveFault::Late(Duration::from_millis(random.below(40))),
        _ => {
            let written = usize::try_from(random.below(3)).unwrap();
            SaveFault::Tear(written, StoreError::Unknown(text))
        }
    }
}

/// A counter whose behaviour depends on the number in the payload.
fn host_by_payload(may_panic: bool) -> BoxedHost {
    host(move |invocation| async move {
        let Payload::Value(any) = &invocation.payload else { return Ok(counted(&invocation)) };
        let mood = number(Some(any));
        sleep(Duration::from_millis(mood % 7)).await;
        match mood % 20 {
            0 if may_panic => panic!("as the test wants it"),
            1 => Err(HostError::Connect { address: "h".into(), reason: "refused".into() }),
            2 => Err(HostError::Broken { address: "h".into(), reason: "gone".into() }),
            3 => Ok(ActorInvocationResponse { checkpoint: true, ..counted(&invocation) }),
            _ => Ok(counted(&invocation)),
        }
    })
}

/// Whether the error says that the call had no effect; this host counts only when it returns a response.
fn is_denial(error: &Error) -> bool {
    match error {
        Error::ActionRan(source) => is_denial(source),
        Error::Store(error) => !error.may_have_happened(),
        Error::Overloaded { .. } | Error::NotStarted(..) | Error::Host(_) => true,
        _ => false,
    }
}

async fn run(seed: u64, durability: Durability) {
    let mut random = Random::new(seed);
    let mut settings = Settings { max_live: 2, ..Settings::default() };
    settings.rules.durability = durability;
    settings.commits_in_flight = usize::try_from(1 + random.below(4)).unwrap();
    (settings.deadlines.start, settings.deadlines.patience) =
        (Duration::from_secs(2), Duration::from_secs(2));
    if random.below(2) == 0 {
        settings.rules.revisions = Revisions::Every;
    }
    let memory = MemoryStore::new();
    // With snapshots a panic may lose unwritten changes, so there is no panic.
    let may_panic = durability == Durability::Acknowledged;
    let world = world_with(host_by_payload(may_panic), settings, memory.clone()).await;
    let timed = |name| Definition {
        snapshot_every: Some(Duration::from_millis(40)),
        deactivate_after: Some(Duration::from_millis(60)),
        ..definition(name)
    };
    world.register(NAMES.map(timed).to_vec()).await.unwrap();

    let known: Arc<[Mutex<Known>; 3]> = Arc::default();
    let mut calls = Vec::new();
    for _ in 0..STEPS {
        match random.below(12) {
            0 => world.store.fail_next_save(fault(&mut random)),
            1 => world.store.hold_saves(),
            2 | 3 => world.store.release_saves(),
            4 => sleep(Duration::from_millis(random.below(150))).await,
            5 if !calls.is_empty() => {
                let gone = random.below(calls.len() as u64);
                let call: &tokio::task::JoinHandle<()> = &calls[usize::try_from(gone).unwrap()];
                call.abort();
            }
            _ => {
                let at = usize::try_from(random.below(3)).unwrap();
                let payload = Payload::Value(any(random.below(1000)));
                let asynchronous = random.below(8) == 0;
                let invocation = Invocation { payload, asynchronous, ..call(NAMES[at], "add") };
                let (mesh, known) = (world.mesh.clone(), known.clone());
                known[at].lock().attempts += 1;
                calls.push(tokio::task::spawn(async move {
                    let answer = mesh.invoke(invocation).await;
                    let mut known = known[at].lock();
                    match answer {
                        Ok(Payload::Value(any)) => {
                            let value = number(Some(&any));
                            if !known.acknowledged.insert(value) {
                                known.doubled.push(value);
                            }
                        }
                        Err(error) if is_denial(&error) => known.attempts -= 1,
                        _ => {}
                    }
                }));
            }
        }
        if random.below(3) == 0 {
            sleep(Duration::from_millis(random.below(10))).await;
        }
    }
    world.store.release_saves();
    for call in calls {
        // An abort stands for a caller that disconnects.
        drop(call.await);
    }
    // Calls that the breaker refused leave faults behind, which would hit the last change of an actor.
    world.store.forget_faults();
    assert!(world.mesh.drain(Duration::from_mins(2)).await, "seed {seed}: drain");

    let again = world_with(counter(), Settings::default(), memory).await;
    for (name, known) in NAMES.iter().zip(&*known) {
        let known = std::mem::take(&mut *known.lock());
        let state = again.mesh.state("s", name).await;
        let value = state.map_or(0, |state| number(state.state.as_ref()));
        let newest = known.acknowledged.last().copied().unwrap_or(0);
        assert!(known.doubled.is_empty(), "seed {seed}, {name}: twice {:?}", known.doubled);
        assert!(newest <= value, "seed {seed}, {name}: {newest} acknowledged, {value} kept");
        assert!(value <= known.attempts, "seed {seed}, {name}: {value} of {}", known.attempts);
        let history = again.memory.load_by_interval(&id(name), Interval::ALL, 999);
        let history = history.await.unwrap().items;
        let numbers: Vec<_> = history.iter().map(|one| (one.revision, one.version)).collect();
        let ascends = |pair: &[(u64, u64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        assert!(numbers.windows(2).all(ascends), "seed {seed}, {name}: {numbers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_kept_whatever_goes_wrong() {
    for seed in 0..SEEDS {
        run(seed, Durability::Acknowledged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_snapshots_what_memory_told_is_kept_through_every_failure_of_the_store() {
    for seed in 0..SEEDS {
        run(seed, Durability::Snapshot).await;
    }
}
