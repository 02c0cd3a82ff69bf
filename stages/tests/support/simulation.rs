//! Simulation: sources that count are called while stores fail, answers are lost and proxies crash, in an order drawn from a seed.
//! What the sources send has to arrive at actors that note the last count of each source.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_stages::invocation::{ActorInvocation, ActorInvocationResponse, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StateStore, StoreError};
use tidegate_stages::state::Any;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

use crate::support::*;

/// The actors that send.
pub(crate) const SOURCES: [&str; 3] = ["source-a", "source-b", "source-c"];
/// Starts after the first one.
pub(crate) const STARTS: u64 = 4;
const STEPS: u64 = 40;

pub(crate) type Act = fn(&ActorInvocation) -> ActorInvocationResponse;

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

pub(crate) fn text(value: Option<&Any>) -> String {
    value.map_or_else(String::new, |any| String::from_utf8(any.value.to_vec()).unwrap())
}

pub(crate) fn any_text(text: String) -> Any {
    Any { type_url: "test/text".into(), value: text.into() }
}

/// What a target has of each source: the last count, and how many came that were none of those to come next.
pub(crate) fn counts(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(name, number)| (name.into(), number.parse().unwrap())).collect()
}

/// Notes a message `SOURCE COUNT` in the counts of an actor, and in `wrong` whether it is not the one to come next. The new counts
/// are the new state.
pub(crate) fn noted(
    invocation: &ActorInvocation,
) -> (BTreeMap<String, u64>, ActorInvocationResponse) {
    let mut counts = counts(&text(invocation.state.as_ref()));
    let Payload::Value(sent) = &invocation.payload else { panic!("a message has a payload") };
    let sent = text(Some(sent));
    let (from, count) = sent.split_once(' ').unwrap();
    let count: u64 = count.parse().unwrap();
    let last = counts.entry(from.into()).or_default();
    let is_wrong = count != *last + 1;
    *last = count.max(*last);
    *counts.entry("all".into()).or_default() += 1;
    *counts.entry("wrong".into()).or_default() += u64::from(is_wrong);
    let lines: Vec<_> = counts.iter().map(|(name, number)| format!("{name} {number}\n")).collect();
    let state = Some(any_text(lines.concat()));
    (counts, ActorInvocationResponse { state, ..ActorInvocationResponse::default() })
}

/// Counts a call of a source: its new state, and what it sends.
pub(crate) fn counted_up(invocation: &ActorInvocation) -> (u64, ActorInvocationResponse) {
    let count = text(invocation.state.as_ref()).parse().unwrap_or(0) + 1_u64;
    let state = Some(any_text(count.to_string()));
    (count, ActorInvocationResponse { state, ..ActorInvocationResponse::default() })
}

/// Some answers are lost, some are late.
fn worker(seed: u64, act: Act) -> BoxedHost {
    let random = Arc::new(Mutex::new(Random::new(seed)));
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

pub(crate) async fn state(world: &World, name: &str) -> String {
    let head = world.head(name).await;
    text(head.and_then(|head| head.content.state).as_ref())
}

/// Opens the next start. The one before ends without having been told.
pub(crate) async fn next(
    former: Option<World>,
    (seed, act): (u64, Act),
    settings: Settings,
    memory: &MemoryStore,
) -> World {
    let world = world_with(worker(seed, act), settings, memory.clone()).await;
    if let Some(former) = former {
        former.store.forget_faults();
        former.mesh.drain(Duration::ZERO).await;
    }
    world
}

/// Calls and faults, then perhaps an orderly end.
pub(crate) async fn disturb(random: &mut Random, world: &World) {
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

/// Waits until no source has anything to deliver. Returns the committed count of each that has one.
pub(crate) async fn committed(world: &World, memory: &MemoryStore) -> BTreeMap<String, u64> {
    for _ in 0..600 {
        sleep(Duration::from_secs(5)).await;
        if memory.pending(None, 1).await.unwrap().items.is_empty() {
            break;
        }
    }
    let mut committed = BTreeMap::new();
    for source in SOURCES {
        let count: u64 = state(world, source).await.parse().unwrap_or(0);
        if count > 0 {
            committed.insert(source.to_owned(), count);
        }
        assert!(world.memory.outbox(&id(source), None, 1).await.unwrap().items.is_empty());
    }
    committed
}
