//! Rate limits: per peer, per system and per definition; never for calls of the mesh itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::*;
use tidegate_pipeline::layer::RateLimitOptions;
use tidegate_stages::actor::{ActorId, Definition, HostAddress, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::identity::{Identity, PeerAddress};
use tidegate_stages::invocation::{Invocation, Registration, Workflow};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::topology::{RateLimits, Settings};
use tokio::time::advance;

/// Two calls at once, then one every 30 seconds.
fn two_a_minute() -> RateLimitOptions {
    let two = NonZeroU32::new(2).unwrap();
    let period = Duration::from_mins(1);
    RateLimitOptions { calls: two, period, burst: two, max_keys: 8 }
}

async fn limited(host: BoxedHost, rate_limits: RateLimits) -> World {
    let settings = Settings { rate_limits, ..Settings::default() };
    world_with(host, settings, MemoryStore::new()).await
}

/// Calls twice, then a third time, which is refused; returns when to try again.
async fn used_up(world: &World, call: Invocation) -> Duration {
    for _ in 0..2 {
        world.mesh.invoke(call.clone()).await.unwrap();
    }
    let error = world.mesh.invoke(call).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, true), "{error}");
    let Error::RateLimited { retry_after, .. } = error else { panic!("{error}") };
    retry_after
}

fn in_system(system: &str, invocation: Invocation) -> Invocation {
    let actor = ActorId { system: system.into(), ..invocation.actor };
    Invocation { actor, ..invocation }
}

fn from(peer: PeerAddress, invocation: Invocation) -> Invocation {
    Invocation { identity: Identity::of(peer), ..invocation }
}

fn ip(last: u8) -> PeerAddress {
    PeerAddress::Ip([10, 0, 0, last].into())
}

#[tokio::test(start_paused = true)]
async fn a_system_has_its_rate_and_others_have_theirs() {
    let world =
        limited(counter(), RateLimits { system: Some(two_a_minute()), ..RateLimits::default() })
            .await;
    world.register(["joe", "moe"].map(definition).to_vec()).await.unwrap();
    let other = Definition { id: ActorId { system: "t".into(), ..id("joe") }, ..definition("joe") };
    let host = HostAddress::new("127.0.0.1:8091");
    let registration = Registration { system: "t".into(), host, definitions: vec![other] };
    world.mesh.register(registration).await.unwrap();

    let retry_after = used_up(&world, call("joe", "add")).await;
    assert_eq!(retry_after, Duration::from_secs(30));
    assert_eq!(world.add("moe").await.unwrap_err().kind(), ErrorKind::RateLimited);
    world.mesh.invoke(in_system("t", call("joe", "add"))).await.unwrap();
    advance(retry_after).await;
    assert_eq!(world.add("joe").await.unwrap(), 3, "refused calls did nothing");
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::RateLimited);
}

#[tokio::test(start_paused = true)]
async fn names_of_systems_that_do_not_exist_take_nothing_from_those_that_do() {
    let few = Some(RateLimitOptions { max_keys: 1, ..two_a_minute() });
    let world = limited(counter(), RateLimits { system: few, ..RateLimits::default() }).await;
    world.register(vec![definition("joe")]).await.unwrap();
    for number in 0..100 {
        let invented = in_system(&format!("invented-{number}"), call("joe", "add"));
        let error = world.mesh.invoke(invented).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ActorNotFound);
    }
    used_up(&world, call("joe", "add")).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_name_has_its_rate_at_every_address() {
    let limits = RateLimits { identity: Some(two_a_minute()), ..RateLimits::default() };
    let world = limited(counter(), limits).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let by = |token: Option<&str>, tls: Option<&str>, last: u8| {
        let (token_subject, tls_client) = (token.map(Arc::from), tls.map(Arc::from));
        let identity = Identity { peer: Some(ip(last)), tls_client, token_subject };
        Invocation { identity, ..call("joe", "add") }
    };
    used_up(&world, by(Some("alice"), None, 1)).await;
    for early in [by(Some("alice"), None, 2), by(Some("alice"), Some("till"), 3)] {
        assert_eq!(world.mesh.invoke(early).await.unwrap_err().kind(), ErrorKind::RateLimited);
    }
    // A certificate of the same name is another client.
    used_up(&world, by(None, Some("alice"), 1)).await;
    for _ in 0..5 {
        world.mesh.invoke(by(None, None, 1)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_has_its_rate_whatever_it_calls() {
    let world =
        limited(counter(), RateLimits { peer: Some(two_a_minute()), ..RateLimits::default() })
            .await;
    world.register(["joe", "moe"].map(definition).to_vec()).await.unwrap();
    for peer in [ip(1), ip(2), PeerAddress::UnixSocket] {
        used_up(&world, from(peer, call("joe", "add"))).await;
        let elsewhere = world.mesh.invoke(from(peer, call("nobody", "add"))).await;
        assert_eq!(elsewhere.unwrap_err().kind(), ErrorKind::RateLimited);
    }
    // The caller that the wire names makes nobody another peer.
    let claimed = Invocation { caller: Some(id("moe")), ..call("joe", "add") };
    let error = world.mesh.invoke(from(ip(1), claimed)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
}

#[tokio::test(start_paused = true)]
async fn all_actors_made_from_one_definition_share_its_rate() {
    let limits = RateLimits { definition: Some(two_a_minute()), ..RateLimits::default() };
    let world = limited(counter(), limits).await;
    let template = |name: &str| Definition { kind: Kind::Unnamed, ..definition(name) };
    world.register(vec![template("cats"), template("dogs")]).await.unwrap();
    for (name, parent) in [("tom", "cats"), ("kit", "tom"), ("rex", "dogs")] {
        world.spawn(name, parent).await.unwrap();
    }
    world.add("tom").await.unwrap();
    world.add("kit").await.unwrap();
    for name in ["tom", "kit", "cats"] {
        let error = world.add(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited, "{name}");
    }
    used_up(&world, call("rex", "add")).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_does_not_spawn_its_actor() {
    let limits = RateLimits { definition: Some(two_a_minute()), ..RateLimits::default() };
    let world = limited(counter(), limits).await;
    world.register(vec![Definition { kind: Kind::Unnamed, ..definition("cats") }]).await.unwrap();
    let spawning = |name| Invocation { register_ref: "cats".into(), ..call(name, "add") };
    used_up(&world, spawning("tom")).await;
    let error = world.mesh.invoke(spawning("kit")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    let state = world.mesh.state("s", "kit").await.unwrap_err();
    assert_eq!(state.to_string(), "Actor kit not found on ActorSystem s");
    advance(Duration::from_secs(30)).await;
    assert_eq!(world.mesh.invoke(spawning("kit")).await.map(answered).unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn side_effects_are_never_limited() {
    const EFFECTS: u64 = 20;
    let arrived = Arc::new(AtomicU64::new(0));
    let seen = arrived.clone();
    let host = host(move |invocation| {
        let mut response = counted(&invocation);
        if invocation.actor.name == "joe" {
            // Whoever answers as a host cannot say who calls.
            let effect = from(ip(1), call("moe", "add"));
            let effects = (0..EFFECTS).map(|_| effect.clone()).collect();
            response.workflow = Workflow { effects, ..Workflow::default() };
        } else {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        async move { Ok(response) }
    });
    let limit = Some(two_a_minute());
    let world = limited(
        host,
        RateLimits { peer: limit, identity: limit, system: limit, definition: limit },
    )
    .await;
    world.register(["joe", "moe"].map(definition).to_vec()).await.unwrap();
    world.mesh.invoke(from(ip(1), call("joe", "add"))).await.unwrap();
    wait_until(|| arrived.load(Ordering::SeqCst) == EFFECTS).await;
    world.mesh.invoke(from(ip(1), call("joe", "add"))).await.unwrap();
    let error = world.mesh.invoke(from(ip(1), call("joe", "add"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
}
