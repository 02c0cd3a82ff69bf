//! Calls and side effects for a later time: what their targets recognise, and what becomes of those that cannot be delivered.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_stages::actor::Definition;
use tidegate_stages::invocation::{
    ActorInvocation, EFFECT_ID, Invocation, Metadata, REQUEST_TIMEOUT,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::outbox::record::Record;
use tidegate_stages::outbox::{EffectRows, SourceKind};
use tidegate_stages::ports::{DueStore, HostError, Save, StateStore, StoreError};
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

use support::{
    BoxedHost, World, call, counted, counter, definition, host, later, number, pass, rules, world,
    world_with,
};

const SECOND: Duration = Duration::from_secs(1);

/// The names of the called actors, in order.
type Log = Arc<Mutex<Vec<String>>>;

async fn stored(world: &World) -> usize {
    world.memory.due(None, 100_000).await.unwrap().items.len()
}

async fn count(world: &World, name: &str) -> u64 {
    world.head(name).await.map_or(0, |head| number(head.content.state.as_ref()))
}

/// A host whose `source` has two effects on `sink`, at the time in its metadata. Notes the callers of all others.
fn delaying() -> (BoxedHost, Log) {
    let callers = Log::default();
    let noted = callers.clone();
    let host = host(move |invocation: ActorInvocation| {
        let mut response = counted(&invocation);
        match &invocation.actor.name[..] {
            "source" => {
                let at = invocation.metadata.get("at").unwrap().parse().unwrap();
                let caller = Some(support::id("source"));
                let later = Invocation { scheduled_to: at, caller, ..call("sink", "add") };
                response.workflow.effects = vec![later.clone(), later];
            }
            _ => noted.lock().extend(invocation.caller.map(|id| id.name)),
        }
        async move { Ok(response) }
    });
    (host, callers)
}

/// Calls the source; its effects are due after so many seconds.
async fn emit_later(world: &World, seconds: u64) {
    world.register(["source", "sink"].map(definition).to_vec()).await.unwrap();
    let at = later(world, "sink", seconds).scheduled_to.to_string();
    let metadata = [("at".to_owned(), at)].into();
    world.mesh.invoke(Invocation { metadata, ..call("source", "add") }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_side_effect_for_a_later_time_runs_then_in_the_name_of_its_source() {
    let (host, callers) = delaying();
    let world = world(host).await;
    emit_later(&world, 5).await;
    pass(&world, 4).await;
    let waiting = world.memory.due(None, 10).await.unwrap().items;
    assert_eq!(waiting.len(), 2, "two effects of one response are two");
    assert!(waiting.iter().all(|entry| entry.key.source.kind == SourceKind::Due));
    assert_eq!(count(&world, "sink").await, 0);
    pass(&world, 3).await;
    assert_eq!((count(&world, "sink").await, stored(&world).await), (2, 0));
    assert_eq!(*callers.lock(), ["source", "source"]);
}

#[tokio::test(start_paused = true)]
async fn side_effects_for_a_later_time_are_dead_letters_where_these_are_switched_off() {
    let (host, callers) = delaying();
    let settings = Settings { delayed_calls: false, ..Settings::default() };
    let world = world_with(host, settings, MemoryStore::new()).await;
    emit_later(&world, 5).await;
    pass(&world, 7).await;
    assert!(callers.lock().is_empty());
    let rows = world.memory.outbox(&support::id("source"), None, 10).await.unwrap().items;
    let reasons: Vec<_> = rows
        .into_iter()
        .map(|row| Record::decode(row.record).unwrap().dead.unwrap().reason)
        .collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("SPAWN_DELAYED_INVOKES"), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn a_side_effect_for_a_later_time_that_cannot_be_delivered_is_a_dead_letter() {
    let world = world(host(|invocation: ActorInvocation| {
        let mut response = counted(&invocation);
        if invocation.actor.name == "source" {
            let at = invocation.metadata.get("at").unwrap().parse().unwrap();
            let later = |target, action| Invocation { scheduled_to: at, ..call(target, action) };
            let good = later("sink", "add");
            response.workflow.effects =
                vec![call("nobody", "add"), later("nobody", "add"), later("sink", "fly"), good];
        }
        async move { Ok(response) }
    }))
    .await;
    emit_later(&world, 5).await;
    pass(&world, 4).await;
    // What cannot be buried now is tried again, and not lost.
    world.store.refuse_saves(Some(StoreError::Unavailable("as the test wants it".into())));
    pass(&world, 10).await;
    world.store.refuse_saves(None);
    pass(&world, 130).await;
    assert_eq!((count(&world, "sink").await, stored(&world).await), (1, 0));
    let rows = world.memory.outbox(&support::id("source"), None, 10).await.unwrap().items;
    let mut ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((rows.len(), ids.len()), (3, 3), "each has the number that it had");
    for row in rows {
        let reason = Record::decode(row.record).unwrap().dead.unwrap().reason;
        assert!(reason.contains("not found"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_may_be_written_is_written_again_as_the_same_one() {
    let world = world(host(|invocation: ActorInvocation| {
        let mut response = counted(&invocation);
        if invocation.actor.name == "source" {
            let scheduled_to = invocation.metadata["at"].parse().unwrap();
            response.workflow.effects = vec![Invocation { scheduled_to, ..call("nobody", "add") }];
        }
        async move { Ok(response) }
    }))
    .await;
    emit_later(&world, 5).await;
    pass(&world, 3).await;
    let letters = async || {
        let rows = world.memory.outbox(&support::id("source"), None, 10).await;
        rows.unwrap().items.len()
    };
    assert_eq!((letters().await, stored(&world).await), (0, 1));
    let unknown = StoreError::Unknown("as the test wants it".into());
    world.store.fail_next_save(SaveFault::WriteAndFail(unknown));
    while letters().await == 0 {
        world.clock.advance(SECOND / 10);
        sleep(SECOND / 10).await;
    }
    assert_eq!(stored(&world).await, 1);
    world.register(vec![definition("nobody")]).await.unwrap();
    pass(&world, 10).await;
    assert_eq!((letters().await, stored(&world).await), (1, 0));
    assert_eq!(count(&world, "nobody").await, 0, "it is a dead letter, and not delivered as well");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_target_has_answered_does_not_count_again_after_a_crash() {
    let (host, callers) = delaying();
    let memory = MemoryStore::new();
    let first = world_with(host.clone(), Settings::default(), memory.clone()).await;
    emit_later(&first, 5).await;
    // As a crash leaves it that comes between handing the effects over and their removal from the outbox.
    let handed_over = memory.outbox(&support::id("source"), None, 10).await.unwrap().items;
    assert_eq!(handed_over.len(), 2);
    first.mesh.invoke(later(&first, "sink", 5)).await.unwrap();
    pass(&first, 1).await;
    let entries = memory.due(None, 10).await.unwrap().items;
    assert_eq!(entries.len(), 3);
    pass(&first, 6).await;
    assert_eq!((count(&first, "sink").await, stored(&first).await), (3, 0));
    assert!(first.mesh.drain(10 * SECOND).await);
    // The next crash comes between the commit of the target and the removal of the entries.
    memory.put_due(entries).await.unwrap();
    let rows = EffectRows { appends: handed_over, ..EffectRows::default() };
    let save = Save::of_rows(support::id("source").into(), 9, rows);
    memory.save_all(vec![save]).await.pop().unwrap().unwrap();
    callers.lock().clear();
    let second = world_with(host, Settings::default(), memory).await;
    pass(&second, 10).await;
    assert_eq!((count(&second, "sink").await, stored(&second).await), (3, 0));
    assert!(callers.lock().is_empty(), "they are recognised");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_made_again_has_the_same_number_also_at_a_stateless_target() {
    let numbers = Log::default();
    let found = numbers.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let mut response = counted(&invocation);
        let is_lost = {
            let mut found = found.lock();
            if invocation.actor.name == "sink" {
                found.push(invocation.metadata.get(EFFECT_ID).cloned().unwrap_or_default());
            } else {
                let at = invocation.metadata.get("at").unwrap().parse().unwrap();
                let later = Invocation { scheduled_to: at, ..call("sink", "add") };
                response.workflow.effects = vec![later];
            }
            invocation.actor.name == "sink" && found.len() <= 2
        };
        async move {
            if is_lost {
                return Err(HostError::Broken { address: "h".into(), reason: "reset".into() });
            }
            Ok(response)
        }
    }))
    .await;
    let sink = Definition { stateful: false, ..definition("sink") };
    world.register(vec![definition("source"), sink]).await.unwrap();
    let at = later(&world, "sink", 5).scheduled_to.to_string();
    let metadata = [("at".to_owned(), at)].into();
    world.mesh.invoke(Invocation { metadata, ..call("source", "add") }).await.unwrap();
    world.mesh.invoke(later(&world, "sink", 5)).await.unwrap();
    pass(&world, 15).await;
    let mut numbers = numbers.lock().clone();
    assert_eq!((numbers.len(), stored(&world).await), (4, 0));
    numbers.sort_unstable();
    assert!(numbers[0] == numbers[1] && numbers[2] == numbers[3], "{numbers:?}");
    assert!(numbers[0].starts_with("due/s/") && numbers[2].starts_with("s/source/"), "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_forgets_due_calls_that_are_gone() {
    let world = world_with(counter(), rules(|rules| rules.max_seen = 4), MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    // What a former start may have called is gone by then.
    pass(&world, 63).await;
    for run in 1..=12 {
        world.mesh.invoke(later(&world, "joe", 1)).await.unwrap();
        pass(&world, 2).await;
        assert_eq!(count(&world, "joe").await, run);
        let seen = world.memory.seen(&support::id("joe")).await.unwrap();
        assert!(seen.len() <= 5, "{} after {run} calls", seen.len());
        assert!(seen.iter().all(|seen| seen.source.kind == SourceKind::Due));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waits_for_runs_once_though_its_request_timeout_is_over_before() {
    for limit in ["500", "0"] {
        let limited: Metadata = [(REQUEST_TIMEOUT.to_owned(), limit.to_owned())].into();
        let (of_effects, log) = (limited.clone(), Log::default());
        let noted = log.clone();
        let host = host(move |invocation: ActorInvocation| {
            let mut response = counted(&invocation);
            if invocation.actor.name == "source" {
                let scheduled_to = invocation.metadata["at"].parse().unwrap();
                let (metadata, caller) = (of_effects.clone(), Some(support::id("source")));
                let now = Invocation { metadata, caller, ..call("sink", "add") };
                let later = Invocation { scheduled_to, ..now.clone() };
                response.workflow.effects = vec![now, later];
            } else {
                noted.lock().push(invocation.actor.name.clone());
            }
            async move {
                sleep(SECOND).await;
                Ok(response)
            }
        });
        let world = world(host).await;
        emit_later(&world, 5).await;
        let late = Invocation { metadata: limited, ..later(&world, "sink", 10) };
        world.mesh.invoke(late).await.unwrap();
        pass(&world, 60).await;
        let runs = log.lock().len();
        let ran = (runs, count(&world, "sink").await, stored(&world).await);
        assert_eq!(ran, (3, 3, 0), "an effect, a delayed one and a call, within {limit} ms");
    }
}
