//! Random interleavings of calls, crashes, store failures, lost answers and deactivations. Each effect of a committed state
//! counts exactly once at its stateful target, in order, and none of a lost state ever does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::invocation::{ActorInvocation, ActorInvocationResponse, Invocation, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StateStore, StoreError};
use tidegate_stages::rules::Durability;
use tidegate_stages::state::Any;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

const SOURCES: [&str; 3] = ["source-a", "source-b", "source-c"];
const STARTS: u64 = 4;
const STEPS: u64 = 40;
const SEEDS: u64 = 40;

fn fault(random: &mut Random) -> SaveFault {
    let text = "as the test wants it".to_owned();
    match random.below(7) {
        0 => SaveFault::Lose(StoreError::Unavailable(text)),
        1 => SaveFault::Lose(StoreError::Unknown(text)),
        2 => SaveFault::WriteAndFail(StoreError::Unknown(text)),
        3 => SaveFault::LoseFirst(StoreError::Full(text)),
        4 | 5 => SaveFault::Late(Duration::from_millis(random.below(200))),
        _ => SaveFault::Tear(usize::try_from(random.below(3)).unwrap(), StoreError::Unknown(text)),
    }
}

fn text(value: Option<&Any>) -> String {
    value.map_or_else(String::new, |any| String::from_utf8(any.value.to_vec()).unwrap())
}

fn any_text(text: String) -> Any {
    Any { type_url: "test/text".into(), value: text.into() }
}

/// What a target has of each source: the last count, and how many came that were none of those to come next.
fn counts(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(name, number)| (name.into(), number.parse().unwrap())).collect()
}

/// A source counts, and sends its count to two targets; the first one sends what it got on to `end`.
fn act(invocation: &ActorInvocation) -> ActorInvocationResponse {
    let name = &*invocation.actor.name;
    let to = |target: &str, from: &str, count: u64| Invocation {
        payload: Payload::Value(any_text(format!("{from} {count}"))),
        ..call(target, "add")
    };
    let mut response = ActorInvocationResponse::default();
    if SOURCES.contains(&name) {
        let count = text(invocation.state.as_ref()).parse().unwrap_or(0) + 1_u64;
        response.state = Some(any_text(count.to_string()));
        response.workflow.effects = ["left", "right"].map(|target| to(target, name, count)).into();
        return response;
    }
    let mut counts = counts(&text(invocation.state.as_ref()));
    let Payload::Value(sent) = &invocation.payload else { panic!("an effect has a payload") };
    let sent = text(Some(sent));
    let (from, count) = sent.split_once(' ').unwrap();
    let count: u64 = count.parse().unwrap();
    let last = counts.entry(from.into()).or_default();
    let is_wrong = count != *last + 1;
    *last = count.max(*last);
    *counts.entry("all".into()).or_default() += 1;
    *counts.entry("wrong".into()).or_default() += u64::from(is_wrong);
    if name == "left" {
        response.workflow.effects = vec![to("end", "left", counts["all"])];
    }
    let lines = counts.iter().map(|(name, number)| format!("{name} {number}\n"));
    response.state = Some(any_text(lines.collect()));
    response
}

/// Some answers are lost, some are late.
fn worker(seed: u64) -> BoxedHost {
    let random = std::sync::Arc::new(parking_lot::Mutex::new(Random::new(seed)));
    host(move |invocation| {
        let (mood, pause) = {
            let mut random = random.lock();
            (random.below(25), random.below(30))
        };
        let response = act(&invocation);
        async move {
            sleep(Duration::from_millis(pause)).await;
            let (address, reason) = ("h".into(), "as the test wants it".into());
            match mood {
                0 => Err(HostError::Broken { address, reason }),
                1 => Err(HostError::Connect { address, reason }),
                _ => Ok(response),
            }
        }
    })
}

async fn state(world: &World, name: &str) -> String {
    let head = world.head(name).await;
    text(head.and_then(|head| head.content.state).as_ref())
}

/// Opens the next start. The one before ends without having been told.
async fn next(former: Option<World>, seed: u64, settings: Settings, memory: &MemoryStore) -> World {
    let world = world_with(worker(seed), settings, memory.clone()).await;
    if let Some(former) = former {
        former.store.forget_faults();
        former.mesh.drain(Duration::ZERO).await;
    }
    world
}

/// Calls and faults, then perhaps an orderly end.
async fn disturb(random: &mut Random, world: &World) {
    let mut calls = Vec::new();
    for _ in 0..STEPS {
        match random.below(10) {
            0 => world.store.fail_next_save(fault(random)),
            1 => world.store.fail_next_load(StoreError::Unavailable("away".into())),
            2 => world.store.fail_next_take_over(StoreError::Unknown("cut".into())),
            3 => sleep(Duration::from_millis(random.below(400))).await,
            _ => {
                let source = SOURCES[usize::try_from(random.below(3)).unwrap()];
                calls.push(world.start(call(source, "add")));
                sleep(Duration::from_millis(random.below(20))).await;
            }
        }
    }
    if random.below(2) == 0 {
        world.store.forget_faults();
        world.mesh.drain(Duration::from_secs(30)).await;
    }
    for call in calls {
        call.abort();
    }
}

async fn run(seed: u64, durability: Durability, max_seen: u32) {
    let mut random = Random::new(seed);
    let memory = MemoryStore::new();
    let settings = || rules(|rules| (rules.durability, rules.max_seen) = (durability, max_seen));
    let mut world = next(None, seed, settings(), &memory).await;
    let brief = |name: &str| Definition {
        deactivate_after: Some(Duration::from_millis(100)),
        snapshot_every: (durability == Durability::Snapshot).then_some(Duration::from_secs(1)),
        ..definition(name)
    };
    let names = SOURCES.iter().chain(&["left", "right", "end"]);
    world.register(names.map(|name| brief(name)).collect()).await.unwrap();
    for number in 1..=STARTS {
        disturb(&mut random, &world).await;
        world = next(Some(world), seed + number, settings(), &memory).await;
    }
    for _ in 0..600 {
        sleep(Duration::from_secs(5)).await;
        if memory.pending(None, 1).await.unwrap().items.is_empty() {
            break;
        }
    }
    let mut committed = BTreeMap::new();
    for source in SOURCES {
        let count: u64 = state(&world, source).await.parse().unwrap_or(0);
        if count > 0 {
            committed.insert(source.to_owned(), count);
        }
        assert!(world.memory.outbox(&id(source), None, 1).await.unwrap().items.is_empty());
    }
    let sum: u64 = committed.values().sum();
    for (target, mut expected) in
        [("left", committed.clone()), ("right", committed), ("end", [("left".into(), sum)].into())]
    {
        expected.extend([("all".into(), sum), ("wrong".into(), 0)]);
        let counted = counts(&state(&world, target).await);
        assert!(
            sum == 0 || counted == expected,
            "seed {seed}: {target} {counted:?}, not {expected:?}"
        );
    }
    world.mesh.drain(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn each_effect_of_a_committed_state_counts_once_whatever_fails() {
    for seed in 0..SEEDS {
        run(seed, Durability::Acknowledged, 1_024).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_effect_of_a_committed_state_counts_once_with_snapshots_too() {
    for seed in 0..SEEDS {
        run(seed, Durability::Snapshot, 1_024).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_effect_counts_once_at_targets_that_forget_their_sources_as_soon_as_they_may() {
    for seed in 0..SEEDS {
        run(seed, Durability::Acknowledged, 1).await;
    }
}
