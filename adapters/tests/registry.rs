//! Black-box tests of the registry: actors are deleted and spawned again, and the proxy restarts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use support::client::Client;
use support::counter::{
    ADD, Added, Counter, SYSTEM, add, call, definition, get, get_state, register, spawn,
};
use support::proto::{ActorId, Kind, SpawnRequest};
use support::proxy::{Proxy, embedded};
use support::scene::Scene;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

async fn client(proxy: &Proxy) -> Client {
    Client::connect(proxy.address()).await.unwrap()
}

async fn delete(client: &mut Client, actor: &str) -> u16 {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
    let request = Request::delete(path).header("host", "tidegate").body(Full::default()).unwrap();
    client.send(request).await.unwrap().status
}

/// The status of spawning one actor.
async fn spawned(client: &mut Client, name: &str, parent: &str) -> u16 {
    let (name, system, parent) = (name.into(), SYSTEM.into(), parent.into());
    let request = SpawnRequest { actors: vec![ActorId { name, system, parent }] };
    let path = format!("/api/v1/system/{SYSTEM}/actors/spawn");
    client.post(&path, Bytes::from(request.encode_to_vec())).await.unwrap().status
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
