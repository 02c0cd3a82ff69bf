//! Routing of calls: pipes, forwards and side effects.

mod support;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_stages::actor::{Definition, Kind};
use tidegate_stages::error::ErrorKind;
use tidegate_stages::invocation::{
    ActorInvocationResponse, Invocation, Payload, Routing, Workflow,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

fn route(to: &str, pipe: bool) -> Workflow {
    let (actor, action) = (to.to_owned(), "add".to_owned());
    let routing =
        if pipe { Routing::Pipe { actor, action } } else { Routing::Forward { actor, action } };
    Workflow { routing: Some(routing), ..Workflow::default() }
}

#[tokio::test(start_paused = true)]
async fn a_pipe_hands_on_the_answer_and_a_forward_the_request() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let world = world(host(move |invocation| {
        log.lock().push((
            invocation.actor.name.clone(),
            invocation.payload.clone(),
            invocation.caller.clone(),
        ));
        async move {
            let payload = Payload::Value(any(77));
            let workflow = match invocation.actor.name.as_str() {
                "piper" => route("target", true),
                "forwarder" => route("target", false),
                _ => Workflow::default(),
            };
            Ok(ActorInvocationResponse { payload, workflow, ..ActorInvocationResponse::default() })
        }
    }))
    .await;
    world.register(["piper", "forwarder", "target"].map(definition).to_vec()).await.unwrap();
    for name in ["piper", "forwarder"] {
        let payload = Payload::Value(any(5));
        let answer = world.mesh.invoke(Invocation { payload, ..call(name, "add") }).await.unwrap();
        assert_eq!(answered(answer), 77);
    }
    let seen = seen.lock();
    assert_eq!(seen[1], ("target".into(), Payload::Value(any(77)), Some(id("piper"))));
    assert_eq!(seen[3], ("target".into(), Payload::Value(any(5)), Some(id("forwarder"))));
}

#[tokio::test(start_paused = true)]
async fn a_chain_through_the_same_actor_works_and_a_circle_ends_with_its_path() {
    let world = world(host(|invocation| async move {
        let hop = if invocation.actor.name == "a" { "b" } else { "a" };
        let seen = number(invocation.state.as_ref());
        let mut response = counted(&invocation);
        // `other` stops after two turns of each actor; `add` never stops.
        if invocation.action == "add" || seen < 1 {
            response.workflow.routing =
                Some(Routing::Forward { actor: hop.into(), action: invocation.action.clone() });
        }
        Ok(response)
    }))
    .await;
    world.register(["a", "b"].map(definition).to_vec()).await.unwrap();
    let answer = world.mesh.invoke(call("a", "other")).await.unwrap();
    assert_eq!(answered(answer), 2);
    let error = world.mesh.invoke(call("a", "add")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("a → b → a"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_leads_nowhere_is_the_host_s_fault_and_its_state_is_not_kept() {
    let world = world(host(|invocation| async move {
        let (actor, action) = match invocation.action.as_str() {
            "add" => ("nobody", "add"),
            _ => ("joe", "fly"),
        };
        let mut response = counted(&invocation);
        response.workflow.effects = vec![call("sink", "add")];
        response.workflow.routing =
            Some(Routing::Pipe { actor: actor.into(), action: action.into() });
        Ok(response)
    }))
    .await;
    world.register(["joe", "sink"].map(definition).to_vec()).await.unwrap();
    for (action, missing) in [("add", "nobody"), ("other", "fly")] {
        let error = world.mesh.invoke(call("joe", action)).await.unwrap_err();
        // Not "not found": that reads as if nothing had been done.
        assert_eq!(error.kind(), ErrorKind::HostFailed, "{error}");
        assert!(!error.is_retryable());
        for part in [missing, "the action ran", "not kept"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    sleep(Duration::from_secs(1)).await;
    assert!(world.head("joe").await.is_none() && world.head("sink").await.is_none());
    assert_eq!(answered_or_none(world.mesh.invoke(call("joe", "get")).await.unwrap()), None);
}

fn answered_or_none(payload: Payload) -> Option<u64> {
    (payload != Payload::Unset).then(|| answered(payload))
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_turn_that_routes_too_far_is_not_kept() {
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        let actor = if invocation.actor.name == "a" { "b" } else { "a" };
        response.workflow.routing =
            Some(Routing::Forward { actor: actor.into(), action: "add".into() });
        Ok(response)
    }))
    .await;
    world.register(["a", "b"].map(definition).to_vec()).await.unwrap();
    let error = world.mesh.invoke(call("a", "add")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("not kept"), "{error}");
    let mut kept = Vec::new();
    for name in ["a", "b"] {
        kept.push(number(world.head(name).await.unwrap().content.state.as_ref()));
    }
    // The first call and 32 routed ones have run.
    assert_eq!(kept, [16, 16]);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_next_actor_is_deleted_on_the_way_does_not_say_that_nothing_was_done() {
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        if invocation.actor.name == "first" {
            response.workflow = route("second", true);
        } else {
            sleep(Duration::from_secs(2)).await;
        }
        Ok(response)
    }))
    .await;
    let template = Definition { kind: Kind::Unnamed, ..definition("template") };
    world.register(vec![definition("first"), template]).await.unwrap();
    world.spawn("second", "template").await.unwrap();
    let running = world.start(call("second", "add"));
    until_idle().await;
    let (deleted, routed) = tokio::join!(world.mesh.delete("s", "second"), async {
        until_idle().await;
        world.mesh.invoke(call("first", "add")).await
    });
    deleted.unwrap();
    running.await.unwrap().unwrap();
    let error = routed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFailed, "{error}");
    assert!(error.to_string().contains("has run"), "{error}");
    // It ran, and what it changed is kept.
    assert_eq!(number(world.head("first").await.unwrap().content.state.as_ref()), 1);
}

#[tokio::test(start_paused = true)]
async fn side_effects_are_sent_after_the_commit_each_for_itself_and_in_order() {
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        if invocation.actor.name == "source" {
            response.workflow.effects = vec![
                call("nobody", "add"),
                call("sink", "add"),
                call("sink", "fly"),
                call("sink", "add"),
            ];
        } else {
            // The proxy adds nothing to an effect.
            assert_eq!(invocation.caller, None);
        }
        Ok(response)
    }))
    .await;
    world.register(["source", "sink"].map(definition).to_vec()).await.unwrap();
    world.store.hold_saves();
    let source = world.start(call("source", "add"));
    sleep(Duration::from_millis(10)).await;
    assert!(!source.is_finished() && world.head("sink").await.is_none());
    world.store.release_saves();
    assert_eq!(answered(source.await.unwrap().unwrap()), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(number(world.head("sink").await.unwrap().content.state.as_ref()), 2);
}

#[tokio::test(start_paused = true)]
async fn an_effect_for_a_later_time_waits_and_one_that_is_due_does_not() {
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        if invocation.actor.name == "source" {
            // One that is due already is an ordinary one.
            let scheduled_to = if invocation.action == "add" { i64::MAX } else { 1 };
            let later = Invocation { scheduled_to, ..call("sink", "add") };
            response.workflow.effects = vec![call("sink", "add"), later];
        }
        Ok(response)
    }))
    .await;
    world.register(["source", "sink"].map(definition).to_vec()).await.unwrap();
    world.mesh.invoke(call("source", "add")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(number(world.head("sink").await.unwrap().content.state.as_ref()), 1);
    world.mesh.invoke(call("source", "other")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(number(world.head("sink").await.unwrap().content.state.as_ref()), 3);
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_routed_to_paused_actors_take_places_of_calls_that_wait_for_them() {
    let host = host(|invocation| async move {
        let mut answer = counted(&invocation);
        if invocation.actor.name == "piper" {
            answer.workflow = route("target", true);
        }
        Ok(answer)
    });
    let settings = Settings { for_paused: 1, ..Settings::default() };
    let world = world_with(host, settings, MemoryStore::new()).await;
    world.register(["piper", "target"].map(definition).to_vec()).await.unwrap();
    assert!(world.mesh.pause("s", "target", "a test").await.unwrap());
    for count in 1..=2 {
        let waits = world.start(call("piper", "add"));
        until_idle().await;
        for name in ["piper", "target"] {
            let error = world.add(name).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{name}: {error}");
            assert_eq!(error.is_retryable(), name == "target", "an action has run: {error}");
        }
        assert!(world.mesh.resume("s", "target").await.unwrap());
        assert_eq!(answered(waits.await.unwrap().unwrap()), count);
        assert!(world.mesh.pause("s", "target", "a test").await.unwrap());
    }
    // Those that nobody waits for, too: the second one is lost, with a line in the log.
    for _ in 0..2 {
        let unheard = Invocation { asynchronous: true, ..call("piper", "add") };
        world.mesh.invoke(unheard).await.unwrap();
        until_idle().await;
    }
    assert!(world.mesh.resume("s", "target").await.unwrap());
    until_idle().await;
    assert_eq!(world.add("target").await.unwrap(), 4);
}
