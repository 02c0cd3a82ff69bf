//! Random interleavings of publications, crashes, store failures and lost answers. Each event of a committed state is in its durable
//! topic once and counts once at each stateful subscriber, in order, and none of a lost state ever does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;
#[path = "support/durable_topic.rs"]
mod durable_topic;
#[path = "support/simulation.rs"]
mod simulation;

use std::time::Duration;

use durable_topic::*;
use simulation::*;
use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::invocation::{ActorInvocation, ActorInvocationResponse, Broadcast, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::rules::{ChangeRules, Durability};
use tidegate_stages::topics::rules::TopicRule;
use tidegate_stages::topology::Settings;

const SUBSCRIBERS: [&str; 3] = ["left", "middle", "right"];
const SEEDS: u64 = 15;

/// A source counts, and publishes its count.
fn act(invocation: &ActorInvocation) -> ActorInvocationResponse {
    let name = &*invocation.actor.name;
    if SOURCES.contains(&name) {
        let (count, mut response) = counted_up(invocation);
        let payload = Payload::Value(any_text(format!("{name} {count}")));
        response.workflow.broadcast = Some(Broadcast { channel: "news".into(), payload });
        return response;
    }
    noted(invocation).1
}

async fn run(seed: u64, durability: Durability, max_seen: u32) {
    let mut random = Random::new(seed);
    let memory = MemoryStore::new();
    let settings = || Settings {
        rules: ChangeRules { durability, max_seen, ..ChangeRules::default() },
        ..durable(TopicRule::default())
    };
    let mut world = next(None, (seed, act), settings(), &memory).await;
    let brief = |definition: Definition| Definition {
        deactivate_after: Some(Duration::from_millis(100)),
        snapshot_every: (durability == Durability::Snapshot).then_some(Duration::from_secs(1)),
        ..definition
    };
    let sources = SOURCES.iter().map(|name| brief(definition(name)));
    let all = sources.chain(SUBSCRIBERS.iter().map(|name| brief(subscriber(name)))).collect();
    world.register(all).await.unwrap();
    for number in 1..=STARTS {
        disturb(&mut random, &world).await;
        world = next(Some(world), (seed + number, act), settings(), &memory).await;
    }
    let mut expected = committed(&world, &memory).await;
    let sum: u64 = expected.values().sum();
    expected.extend([("all".into(), sum), ("wrong".into(), 0)]);
    caught_up(&world).await;
    assert_eq!(view(&world).missed, 0, "seed {seed}");
    for subscriber in SUBSCRIBERS {
        let counted = counts(&state(&world, subscriber).await);
        assert!(
            sum == 0 || counted == expected,
            "seed {seed}: {subscriber} {counted:?}, not {expected:?}"
        );
    }
    assert_eq!(view(&world).newest, sum, "seed {seed}: each event is in the log once");
    world.mesh.drain(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn each_event_of_a_committed_state_counts_once_whatever_fails() {
    for seed in 0..SEEDS {
        run(seed, Durability::Acknowledged, 1_024).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_event_of_a_committed_state_counts_once_with_snapshots_too() {
    for seed in 0..SEEDS {
        run(seed, Durability::Snapshot, 1_024).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_event_counts_once_where_sources_are_forgotten_as_soon_as_they_may_be() {
    for seed in 0..SEEDS {
        run(seed, Durability::Acknowledged, 1).await;
    }
}
