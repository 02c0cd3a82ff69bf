//! The built binary: a deleted actor of which rows of effects are left goes on with its key, and so it does elsewhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use support::client::Client;
use support::counter::{Added, Counter, SYSTEM, add, definition, get, register, spawn};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::{run, store_in};
use tidegate::store::{EmbeddedStore, Options};
use tidegate::wire;
use tidegate_stages::actor::ActorId;
use tidegate_stages::outbox::{EffectId, EffectRows, EffectSource, Seen, SourceKind};
use tidegate_stages::ports::{Save, StateStore};
use tidegate_stages::testkit::conformance::effects::appends;
use tidegate_stages::testkit::conformance::states::{id, keep};

const TERMINATE_LIMIT: Duration = Duration::from_secs(40);

fn key(name: &str) -> Arc<ActorId> {
    id(SYSTEM, name, "cart")
}

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, Options::default(), wire::definition).unwrap()
}

/// What was seen of due work, of which it is never known that it cannot come again.
fn seen() -> Seen {
    let source = EffectSource { kind: SourceKind::Due, system: "s".into(), name: "t".into() };
    Seen { source: source.into(), id: EffectId { epoch: 1, activation: 1, number: 7 } }
}

/// Writes rows of effects, as if a proxy had been killed before it delivered them.
async fn put_rows(dir: &Path) {
    let store = open(dir);
    let states: Arc<dyn StateStore> = store.clone();
    let epoch = states.claim_epoch().await.unwrap();
    let of_joe = EffectRows { seen: vec![seen()], ..appends(0..2) };
    let rows = |name, rows| Save::of_rows(key(name), epoch, rows);
    keep(&states, vec![rows("joe", of_joe), rows("ann", appends(0..1))]).await;
    drop(states);
    store.close().await.unwrap();
}

async fn delete(client: &mut Client, actor: &str) -> u16 {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
    let request = Request::delete(path).header("host", "localhost").body(Full::default()).unwrap();
    client.send(request).await.unwrap().status
}

/// The lines of an export that name an actor, without their sums.
fn lines(file: &Path, name: &str) -> Vec<String> {
    let (text, name) = (fs::read_to_string(file).unwrap(), format!("\"name\":\"{name}\""));
    let lines = text.lines().filter(|line| line.contains(&name));
    lines.map(|line| line.split(",\"sum\"").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_actor_goes_on_with_its_key_after_restarts_and_in_another_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let (first, second, file) = (path("first"), path("second"), path("file"));
    let stop = async |proxy: Proxy| assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
    let start = async |store: &Path| {
        let proxy = Proxy::start(&embedded(store, &port)).await;
        let client = Client::connect(proxy.address()).await.unwrap();
        (proxy, client)
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();

    let (proxy, mut client) = start(&first).await;
    let definitions = ["cart", "basket"].map(|name| definition(name, Kind::Unnamed));
    register(&mut client, definitions.into()).await;
    spawn(&mut client, "cart", &["joe", "ann", "eve"]).await;
    for name in ["joe", "joe", "ann", "eve"] {
        add(&mut client, name).await.unwrap();
    }
    drop(client);
    stop(proxy).await;
    put_rows(&first).await;
    let (proxy, mut client) = start(&first).await;
    for name in ["joe", "ann", "eve"] {
        assert_eq!(delete(&mut client, name).await, 200);
        assert!(matches!(add(&mut client, name).await.unwrap(), Added::Refused(404, _)));
    }
    drop(client);
    stop(proxy).await;

    // Another store: what is deleted stays deleted, and its key is known there.
    run(&["export", &text(&file)], &store_in(&first)).await.said();
    let deleted = |name: &str| {
        format!("{{\"deleted\":{{\"system\":\"{SYSTEM}\",\"name\":\"{name}\",\"parent\":\"cart\"}}")
    };
    for name in ["joe", "ann"] {
        assert_eq!(lines(&file, name)[0], deleted(name));
    }
    assert!(lines(&file, "eve").is_empty(), "nothing is left of it");
    run(&["import", &text(&file)], &store_in(&second)).await.said();

    for store in [&first, &second] {
        let (proxy, mut client) = start(store).await;
        assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::Refused(404, _)));
        spawn(&mut client, "basket", &["joe"]).await;
        add(&mut client, "joe").await.unwrap();
        assert_eq!(get(&mut client, "joe").await, 1, "its state is gone");
        drop(client);
        stop(proxy).await;
        let (proxy, mut client) = start(store).await;
        assert_eq!(get(&mut client, "joe").await, 1);
        drop(client);
        stop(proxy).await;

        let store = open(store);
        let heads = store.actors(SYSTEM, None, 9).await.unwrap().items;
        assert_eq!(heads, [key("joe")], "the key is that of before");
        assert_eq!(StateStore::seen(&*store, &key("joe")).await.unwrap(), [seen()]);
        let outbox = StateStore::outbox(&*store, &key("joe"), None, 9).await.unwrap().items;
        assert_eq!(outbox.iter().map(|row| row.id.number).collect::<Vec<_>>(), [0, 1]);
        store.close().await.unwrap();
    }
    let again = path("again");
    run(&["export", &text(&again)], &store_in(&second)).await.said();
    let spawned = "\"parent\":\"basket\",\"revision\":null,\"key_parent\":\"cart\"}";
    assert!(lines(&again, "joe")[0].ends_with(spawned), "{:?}", lines(&again, "joe"));
    assert_eq!(lines(&again, "ann")[0], deleted("ann"));

    // What is registered takes the place of what is only deleted there, and nothing else does.
    let (third, merged) = (path("third"), path("merged"));
    run(&["import", &text(&file)], &store_in(&third)).await.said();
    run(&["import", &text(&again), "--merge"], &store_in(&third)).await.said();
    run(&["import", &text(&file), "--merge"], &store_in(&third)).await.said();
    run(&["export", &text(&merged)], &store_in(&third)).await.said();
    for name in ["joe", "ann"] {
        assert_eq!(lines(&merged, name)[0], lines(&again, name)[0]);
    }
}
