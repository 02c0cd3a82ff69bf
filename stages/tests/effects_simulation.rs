//! Random interleavings of calls, crashes, store failures, lost answers and deactivations. Each effect of a committed state
//! counts exactly once at its stateful target, in order, and none of a lost state ever does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;
#[path = "support/simulation.rs"]
mod simulation;

use std::time::Duration;

use simulation::*;
use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::invocation::{ActorInvocation, ActorInvocationResponse, Invocation, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::rules::Durability;

const SEEDS: u64 = 40;

/// A source counts, and sends its count to two targets; the first one sends what it got on to `end`.
fn act(invocation: &ActorInvocation) -> ActorInvocationResponse {
    let name = &*invocation.actor.name;
    let to = |target: &str, from: &str, count: u64| Invocation {
        payload: Payload::Value(any_text(format!("{from} {count}"))),
        ..call(target, "add")
    };
    if SOURCES.contains(&name) {
        let (count, mut response) = counted_up(invocation);
        response.workflow.effects = ["left", "right"].map(|target| to(target, name, count)).into();
        return response;
    }
    let (counts, mut response) = noted(invocation);
    if name == "left" {
        response.workflow.effects = vec![to("end", "left", counts["all"])];
    }
    response
}

async fn run(seed: u64, durability: Durability, max_seen: u32) {
    let mut random = Random::new(seed);
    let memory = MemoryStore::new();
    let settings = || rules(|rules| (rules.durability, rules.max_seen) = (durability, max_seen));
    let mut world = next(None, (seed, act), settings(), &memory).await;
    let brief = |name: &str| Definition {
        deactivate_after: Some(Duration::from_millis(100)),
        snapshot_every: (durability == Durability::Snapshot).then_some(Duration::from_secs(1)),
        ..definition(name)
    };
    let names = SOURCES.iter().chain(&["left", "right", "end"]);
    world.register(names.map(|name| brief(name)).collect()).await.unwrap();
    for number in 1..=STARTS {
        disturb(&mut random, &world).await;
        world = next(Some(world), (seed + number, act), settings(), &memory).await;
    }
    let committed = committed(&world, &memory).await;
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
