//! Access policies: every way in which an actor is called asks them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use support::*;
use tidegate_stages::access::{CurrentPolicies, Policies, Policy};
use tidegate_stages::actor::{ActorId, Definition, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::identity::{Identity, PeerAddress};
use tidegate_stages::invocation::{Invocation, Routing};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

async fn guarded(host: BoxedHost) -> (World, CurrentPolicies) {
    let settings = Settings::default();
    let policies = settings.policies.clone();
    (world_with(host, settings, MemoryStore::new()).await, policies)
}

fn policies(files: &[&str]) -> Policies {
    Policies::new(files.iter().map(|text| Policy::parse("x.policy", text).unwrap()).collect())
}

fn alice() -> Identity {
    let peer = Some(PeerAddress::UnixSocket);
    Identity { peer, tls_client: None, token_subject: Some("alice".into()) }
}

fn by_alice(invocation: Invocation) -> Invocation {
    Invocation { identity: alice(), ..invocation }
}

fn is_refused<T>(outcome: Result<T, Error>) -> Error {
    let error = outcome.err().unwrap();
    assert!(matches!(error, Error::NotAllowed(_)), "{error}");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Forbidden, false));
    error
}

#[tokio::test(start_paused = true)]
async fn a_client_calls_and_reads_what_policies_allow_and_a_reload_counts_at_once() {
    let (world, current) = guarded(counter()).await;
    world.register(["joe", "moe"].map(definition).to_vec()).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1, "no file allows");

    current.replace(policies(&["identities: alice\ntargets: joe\nactions: add, get"]));
    assert_eq!(answered(world.mesh.invoke(by_alice(call("joe", "add"))).await.unwrap()), 2);
    world.mesh.state_for(&alice(), "s", "joe").await.unwrap();
    is_refused(world.mesh.invoke(by_alice(call("joe", "other"))).await);
    is_refused(world.mesh.invoke(by_alice(call("moe", "add"))).await);
    is_refused(world.mesh.state_for(&alice(), "s", "moe").await);
    // Who may not call an actor does not learn whether it exists.
    is_refused(world.mesh.invoke(by_alice(call("nobody", "add"))).await);
    let anonymous = Identity::of(PeerAddress::UnixSocket);
    is_refused(world.mesh.state_for(&anonymous, "s", "joe").await);
    let anonymous = Invocation { identity: anonymous, ..call("joe", "add") };
    // The caller that the wire names is nobody's name.
    let claimed = Invocation { caller: Some(id("alice")), ..anonymous.clone() };
    for call in [anonymous, claimed] {
        is_refused(world.mesh.invoke(call).await);
    }

    current.replace(policies(&["kinds: invoke"]));
    assert_eq!(world.add("joe").await.unwrap(), 3, "nothing ran that was refused");
    is_refused(world.mesh.state_for(&alice(), "s", "joe").await);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_spawns_nobody() {
    let (world, current) = guarded(counter()).await;
    let template = |name| Definition { kind: Kind::Unnamed, ..definition(name) };
    world.register(["guest", "admin"].map(template).to_vec()).await.unwrap();
    let spawning = |name: &str, register_ref: &str| {
        let register_ref = register_ref.to_owned();
        by_alice(Invocation { register_ref, ..call(name, "add") })
    };
    current.replace(policies(&["targets: guest, guest-*"]));
    is_refused(world.mesh.invoke(spawning("guest-1", "admin")).await);
    is_refused(world.mesh.invoke(spawning("joe", "guest")).await);
    let by_parent = ActorId { parent: "admin".into(), ..id("guest-1") };
    let by_parent = Invocation { actor: by_parent, ..spawning("guest-1", "guest-1") };
    is_refused(world.mesh.invoke(by_parent).await);
    world.mesh.invoke(spawning("guest-2", "guest")).await.unwrap();

    current.replace(Policies::default());
    for name in ["guest-1", "joe"] {
        assert_eq!(world.add(name).await.unwrap_err().kind(), ErrorKind::ActorNotFound, "{name}");
    }
    assert_eq!(world.add("guest-2").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_actor_sends_effects_where_policies_allow_it_to() {
    let (world, current) = guarded(host(|invocation| async move {
        let mut response = counted(&invocation);
        if ["good", "bad"].contains(&invocation.actor.name.as_str()) {
            // The host may claim any caller; the mesh knows who it was.
            let caller = Some(id("good"));
            response.workflow.effects = vec![Invocation { caller, ..call("sink", "add") }];
        }
        Ok(response)
    }))
    .await;
    world.register(["good", "bad", "sink"].map(definition).to_vec()).await.unwrap();
    current.replace(policies(&["kinds: invoke", "actors: good\nkinds: effect"]));
    for (name, sunk) in [("bad", 0), ("good", 1), ("bad", 1)] {
        world.add(name).await.unwrap();
        sleep(Duration::from_secs(90)).await;
        let head = world.head("sink").await;
        assert_eq!(number(head.and_then(|head| head.content.state).as_ref()), sunk, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_routes_its_call_where_policies_allow_it_to_whoever_the_client_is() {
    let (world, current) = guarded(host(|invocation| async move {
        let mut response = counted(&invocation);
        let (actor, action) = ("target".to_owned(), "other".to_owned());
        response.workflow.routing = match (&*invocation.actor.name, &*invocation.action) {
            ("target", _) => None,
            (_, "add") => Some(Routing::Pipe { actor, action }),
            _ => Some(Routing::Forward { actor, action }),
        };
        Ok(response)
    }))
    .await;
    world.register(["router", "target"].map(definition).to_vec()).await.unwrap();
    let clients = "identities: alice\ntargets: router";
    current.replace(policies(&[clients, "actors: router\nkinds: pipe\ntargets: s/target"]));
    // The client itself may not call the target: it is the router's right that counts.
    is_refused(world.mesh.invoke(by_alice(call("target", "other"))).await);
    assert_eq!(answered(world.mesh.invoke(by_alice(call("router", "add"))).await.unwrap()), 1);
    let error = is_refused(world.mesh.invoke(by_alice(call("router", "other"))).await);
    assert!(error.to_string().contains("not kept"), "{error}");

    // What the client may call is not what its actor may call.
    current.replace(policies(&["identities: alice"]));
    is_refused(world.mesh.invoke(by_alice(call("router", "add"))).await);
    assert_eq!(number(world.head("router").await.unwrap().content.state.as_ref()), 1);
    world.mesh.invoke(by_alice(call("target", "other"))).await.unwrap();
}
