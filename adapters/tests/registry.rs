//! Black-box tests of the registry: actors are deleted and spawned again, and the proxy restarts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use support::client::Client;
use support::counter::{
    ADD, Added, Counter, SYSTEM, add, call, definition, get, get_state, register, spawn, stateless,
};
use support::proto::{
    Actor, ActorId, ActorSystem, Kind, RegistrationRequest, RegistrationResponse, Registry,
    ServiceInfo, SpawnRequest, SpawnResponse,
};
use support::proxy::{Proxy, embedded};
use support::scene::Scene;
use support::scrape::{Scrape, count, until_count};
use support::tool::run;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

async fn client(proxy: &Proxy) -> Client {
    Client::connect(proxy.address()).await.unwrap()
}

async fn delete(client: &mut Client, actor: &str) -> u16 {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
    let request = Request::delete(path).header("host", "localhost").body(Full::default()).unwrap();
    client.send(request).await.unwrap().status
}

/// The status of spawning one actor.
async fn spawned(client: &mut Client, name: &str, parent: &str) -> u16 {
    spawned_all(client, SYSTEM, parent, vec![name.into()]).await.0
}

/// The status of spawning actors, and what is said with it.
async fn spawned_all(
    client: &mut Client,
    system: &str,
    parent: &str,
    names: Vec<String>,
) -> (u16, String) {
    let id = |name| ActorId { name, system: system.into(), parent: parent.into() };
    let request = SpawnRequest { actors: names.into_iter().map(id).collect() };
    let path = format!("/api/v1/system/{system}/actors/spawn");
    let answer = client.post(&path, Bytes::from(request.encode_to_vec())).await.unwrap();
    (answer.status, answer.decode::<SpawnResponse>().status.unwrap().message)
}

fn names(numbers: Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("a{number}")).collect()
}

/// The status of adding one, and the new value.
async fn added(client: &mut Client, actor: &str) -> (u16, u32) {
    match add(client, actor).await.unwrap() {
        Added::To(value) => (200, value),
        Added::Refused(status, _) => (status, 0),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_parent_orphans_nobody_and_makes_no_circle_before_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let scene = Scene::embedded(directory.path());
    let mut proxy = scene.start(&[]).await;
    let mut client = client(&proxy).await;
    register(&mut client, vec![definition("template", Kind::Unnamed)]).await;
    spawn(&mut client, "template", &["parent"]).await;
    spawn(&mut client, "parent", &["child"]).await;
    assert_eq!(added(&mut client, "parent").await, (200, 1));
    assert_eq!(added(&mut client, "child").await, (200, 1));
    assert_eq!(delete(&mut client, "parent").await, 200);
    for before in 0..2 {
        assert_eq!(get_state(&mut client, "parent").await, before, "its state was deleted");
        assert_eq!(spawned(&mut client, "parent", "child").await, 409);
        assert_eq!(added(&mut client, "child").await, (200, before + 2));
        assert_eq!(added(&mut client, "parent").await, (200, before + 1));
        proxy.kill().await;
        proxy = scene.start(&[]).await;
        client = self::client(&proxy).await;
    }

    assert_eq!(delete(&mut client, "child").await, 200);
    assert_eq!(delete(&mut client, "parent").await, 200);
    for _ in 0..2 {
        for gone in ["child", "parent"] {
            assert_eq!(added(&mut client, gone).await, (404, 0), "{gone}");
        }
        proxy.kill().await;
        proxy = scene.start(&[]).await;
        client = self::client(&proxy).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_name_their_definition_meet_no_404_while_their_actor_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let scene = Scene::embedded(directory.path());
    let proxy = scene.start(&[]).await;
    let mut client = client(&proxy).await;
    register(&mut client, vec![definition("template", Kind::Unnamed)]).await;
    let mut by_reference = call("joe", ADD);
    by_reference.register_ref = "template".into();
    let (mut callers, enough) = (JoinSet::new(), CancellationToken::new());
    for _ in 0..4 {
        let mut client = self::client(&proxy).await;
        let (by_reference, enough) = (by_reference.clone(), enough.clone());
        callers.spawn(async move {
            while !enough.is_cancelled() {
                let (status, answer) = client.invoke(&by_reference).await.unwrap();
                assert_eq!(status, 200, "{:?}", answer.status);
            }
        });
    }
    let mut deleted = 0;
    while deleted < 100 {
        // Not there at the moment: the next call spawns it again.
        let status = delete(&mut client, "joe").await;
        assert!(matches!(status, 200 | 404), "{status}");
        deleted += u32::from(status == 200);
        if let Some(ended) = callers.try_join_next() {
            ended.unwrap();
        }
        assert!(!callers.is_empty(), "a caller fails");
    }
    enough.cancel();
    callers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_above_a_lowered_limit_can_be_read_and_kept_and_only_growth_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let padded = |padding| {
        let counter = Counter { padding, ..Counter::default() };
        Scene::with(counter, embedded(directory.path(), "1"))
    };
    let scene = padded(3_000);
    let proxy = scene.start(&[]).await;
    let mut client = client(&proxy).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(added(&mut client, "joe").await, (200, 1));
    proxy.kill().await;

    let lowered = [("TIDEGATE_MAX_STATE_BYTES", "1KiB")];
    for (padding, status, value) in
        [(3_000, 200, 2), (3_001, 413, 2), (2_000, 200, 3), (0, 200, 4), (2_000, 413, 4)]
    {
        let scene = padded(padding);
        let proxy = scene.start(&lowered).await;
        let mut client = self::client(&proxy).await;
        // The host has moved.
        register(&mut client, vec![definition("joe", Kind::Named)]).await;
        get(&mut client, "joe").await;
        assert_eq!(added(&mut client, "joe").await.0, status, "{padding}");
        assert_eq!(get(&mut client, "joe").await, value, "{padding}");
        assert_eq!(get_state(&mut client, "joe").await, value, "{padding}");
        proxy.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_beyond_a_bound_are_refused_and_what_a_store_holds_beyond_it_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let scene = Scene::embedded(directory.path());
    let proxy = scene.start(&[]).await;
    let mut client = client(&proxy).await;
    register(&mut client, vec![definition("template", Kind::Unnamed)]).await;
    for many in [10_001, 200_000] {
        let (status, text) = spawned_all(&mut client, SYSTEM, "template", names(0..many)).await;
        assert_eq!(status, 413, "{text}");
        assert!(text.contains(&many.to_string()) && text.contains("10000"), "{text}");
    }
    assert_eq!(added(&mut client, "a0").await.0, 404, "nothing of it was done");
    assert_eq!(spawned_all(&mut client, SYSTEM, "template", names(0..10_000)).await.0, 200);
    proxy.kill().await;

    let bounds = [
        ("TIDEGATE_MAX_REGISTERED_PER_REQUEST", "3"),
        ("TIDEGATE_MAX_REGISTERED_PER_SYSTEM", "4"),
        ("TIDEGATE_MAX_REGISTERED", "10003"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ];
    let proxy = scene.start(&bounds).await;
    let mut client = self::client(&proxy).await;
    assert_eq!(added(&mut client, "a9999").await, (200, 1), "it is served");
    assert_eq!(spawned(&mut client, "a0", "template").await, 200, "it is no new name");
    let full = spawned_all(&mut client, SYSTEM, "template", names(10_000..10_001)).await;
    assert_eq!(full.0, 503, "{}", full.1);
    assert!(full.1.contains("TIDEGATE_MAX_REGISTERED_PER_SYSTEM"), "{}", full.1);
    let other = |name: &str| {
        let mut actor = definition(name, Kind::Unnamed);
        actor.id.as_mut().unwrap().system = "other".into();
        actor
    };
    register_in(&mut client, "other", vec![other("template")], 200).await;
    let many = names(0..4).iter().map(|name| other(name)).collect();
    register_in(&mut client, "other", many, 413).await;
    let two = names(0..2).iter().map(|name| other(name)).collect();
    register_in(&mut client, "other", two, 503).await;
    assert_eq!(spawned_all(&mut client, "other", "template", names(0..1)).await.0, 200);
    let full = spawned_all(&mut client, "other", "template", names(1..2)).await;
    assert_eq!(full.0, 503, "{}", full.1);
    assert!(full.1.contains("TIDEGATE_MAX_REGISTERED "), "{}", full.1);
    assert_eq!(delete(&mut client, "a1").await, 200);
    assert_eq!(spawned_all(&mut client, "other", "template", names(1..2)).await.0, 200);
    let said = proxy.said(Duration::from_mins(1)).await.join("\n");
    assert!(said.contains("more actors are registered than"), "{said}");
}

async fn register_in(client: &mut Client, system: &str, actors: Vec<Actor>, expected: u16) {
    let name = |actor: &Actor| actor.id.as_ref().unwrap().name.clone();
    let actors = actors.into_iter().map(|actor| (name(&actor), actor)).collect();
    let request = RegistrationRequest {
        service_info: Some(ServiceInfo::default()),
        actor_system: Some(ActorSystem {
            name: system.into(),
            registry: Some(Registry { actors }),
        }),
    };
    let reply = client.post("/api/v1/system", request.encode_to_vec().into()).await.unwrap();
    let message = reply.decode::<RegistrationResponse>().status.unwrap().message;
    assert_eq!(reply.status, expected, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_beyond_the_bytes_leave_memory_and_what_that_loses_is_counted() {
    const LOST: &str = "tidegate_stateless_evictions_total";
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter { padding: 20_000, ..Counter::default() };
    let scene = Scene::with(counter, embedded(directory.path(), "1"));
    let proxy = scene.start(&[("TIDEGATE_LIVE_BYTES", "128KiB")]).await;
    let mut client = client(&proxy).await;
    let (kept, volatile) = (names(0..20), ["v0", "v1", "v2"]);
    let definitions = kept.iter().map(|name| definition(name, Kind::Named));
    let definitions = definitions.chain(volatile.map(stateless)).collect();
    register(&mut client, definitions).await;
    for name in volatile {
        assert_eq!(added(&mut client, name).await, (200, 1));
    }
    for round in 1..=2 {
        for name in &kept {
            assert_eq!(added(&mut client, name).await, (200, round));
        }
    }
    for name in volatile {
        assert_eq!(added(&mut client, name).await, (200, 2), "stateful ones leave first");
    }
    assert_eq!(Scrape::of(&proxy).await.get(LOST, &[]), Some(0.0));
    let evicted = count(&proxy, "tidegate_deactivations_total{reason=\"evicted\"}").await;
    assert!(evicted > 20, "{evicted}");

    let many: Vec<_> = (0..10).map(|number| format!("w{number}")).collect();
    register(&mut client, many.iter().map(|name| stateless(name)).collect()).await;
    for name in &many {
        assert_eq!(added(&mut client, name).await, (200, 1));
    }
    until_count(&proxy, LOST, 7).await;
    assert_eq!(added(&mut client, "v0").await, (200, 1), "it has lost its memory");
    assert_eq!(added(&mut client, "a0").await, (200, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_whose_parent_has_changed_goes_on_with_its_state_before_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let scene = Scene::embedded(directory.path());
    let every = [("TIDEGATE_REVISIONS", "every"), ("TIDEGATE_DRAIN_DELAY", "0")];
    let mut proxy = scene.start(&every).await;
    let mut client = client(&proxy).await;
    let below = |parent: &str| {
        let mut actor = definition("joe", Kind::Unnamed);
        actor.id.as_mut().unwrap().parent = parent.into();
        vec![actor]
    };
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    for value in 1..=5 {
        assert_eq!(added(&mut client, "joe").await, (200, value));
    }
    register(&mut client, below("family")).await;
    for value in [5, 6] {
        assert_eq!(get_state(&mut client, "joe").await, value);
        assert_eq!(added(&mut client, "joe").await, (200, value + 1));
        let said = proxy.said(Duration::from_mins(1)).await.join("\n");
        let lines = said.matches("registered with another parent").count();
        assert_eq!(lines, usize::from(value == 5), "{said}");
        // Beside a stopped proxy.
        let place = embedded(directory.path(), "1");
        let joe = format!("{SYSTEM}/joe");
        for command in ["state", "history"] {
            let said = run(&[command, &joe], &place).await.said();
            let last = (value + 1).to_string();
            assert!(said.split_whitespace().any(|word| word == last), "{command}: {said}");
        }
        proxy = scene.start(&every).await;
        client = self::client(&proxy).await;
    }
    let path = format!("/api/v1/system/{SYSTEM}/actors/joe/revisions/6");
    let request = Request::get(path).header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 200);

    assert_eq!(delete(&mut client, "joe").await, 200);
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(get_state(&mut client, "joe").await, 0);
    register(&mut client, below("family")).await;
    assert_eq!(added(&mut client, "joe").await, (200, 1));
}
