//! Effects count exactly once at targets that have a state, whatever is lost in between (decision 18).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod dead;
mod kept;
mod letters;
mod once;
mod seen;
mod stuck;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_stages::actor::{Definition, Kind};
use tidegate_stages::error::ErrorKind;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, EFFECT_ID, Invocation, Payload, Routing, Workflow,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::outbox::record::Record;
use tidegate_stages::ports::{HostError, StateStore, StoreError};
use tidegate_stages::rules::Durability;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

/// What each actor was called with, in order: the number that the source had counted to.
#[derive(Debug, Clone, Default)]
struct Runs(Arc<Mutex<Vec<(String, u64)>>>);

impl Runs {
    fn of(&self, name: &str) -> Vec<u64> {
        self.0.lock().iter().filter(|(of, _)| of == name).map(|(_, number)| *number).collect()
    }
}

/// A source counts, and has each target add what it counted to.
fn emitting(runs: &Runs, targets: &'static [&'static str]) -> BoxedHost {
    let runs = runs.clone();
    host(move |invocation| {
        let response = emit(&runs, targets, &invocation);
        async move { Ok(response) }
    })
}

fn emit(runs: &Runs, targets: &[&str], invocation: &ActorInvocation) -> ActorInvocationResponse {
    let mut response = counted(invocation);
    if invocation.actor.name.starts_with("source") {
        let payload = response.payload.clone();
        let effect = |target: &&str| Invocation { payload: payload.clone(), ..call(target, "add") };
        response.workflow.effects = targets.iter().map(effect).collect();
    } else if let Payload::Value(any) = &invocation.payload {
        runs.0.lock().push((invocation.actor.name.clone(), number(Some(any))));
    }
    response
}

async fn registered(world: &World, names: &[&str]) {
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
}

async fn count(world: &World, name: &str) -> u64 {
    number(world.head(name).await.and_then(|head| head.content.state).as_ref())
}

async fn rows(world: &World, name: &str) -> Vec<Record> {
    let page = world.memory.outbox(&id(name), None, 9_999).await.unwrap();
    page.items.into_iter().map(|row| Record::decode(row.record).unwrap()).collect()
}

async fn seen(world: &World, name: &str) -> usize {
    world.memory.seen(&id(name)).await.unwrap().len()
}

async fn seen_names(world: &World, name: &str) -> Vec<String> {
    let seen = world.memory.seen(&id(name)).await.unwrap();
    seen.into_iter().map(|seen| seen.source.name.clone()).collect()
}

fn broken() -> HostError {
    HostError::Broken { address: "h".into(), reason: "reset".into() }
}

/// Lets deliveries and removals happen.
async fn delivered() {
    sleep(Duration::from_secs(1)).await;
}

fn rules_of(durability: Durability) -> Settings {
    rules(|rules| rules.durability = durability)
}
