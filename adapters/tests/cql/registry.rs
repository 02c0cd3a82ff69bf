//! Registrations that are larger than one write, and registrations that fail half way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use tidegate::store::{CqlOptions, Notes};
use tidegate_stages::ports::{Registered, Registry, RegistryChange, StateStore, StoreError};
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::states::id;
use tokio::task::JoinSet;

use crate::server::{self, Keyspace};
use crate::support::client::Client;
use crate::support::counter::{Added, Counter, SYSTEM, add, definition, register, registration};
use crate::support::host::Host;
use crate::support::proto::{ActorId, Kind, SpawnRequest};
use crate::support::proxy::Proxy;
use crate::wire::{BATCH, EXECUTE, Wire};
use crate::{open, open_with};

/// As many as one request may have. The server refuses batches of several partitions beyond 50 KiB; these take 2 MiB.
const MANY: u32 = 10_000;
const LIMIT: Duration = Duration::from_mins(1);

fn put(name: &str) -> RegistryChange {
    RegistryChange::Put(Registered::spawned(id("s", name, "p"), None))
}

async fn names(registry: &impl Registry) -> Vec<String> {
    let all = registry.load().await.unwrap();
    let mut names: Vec<_> = all.iter().map(|one| one.id().name.clone()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_registration_may_be_larger_than_a_write() {
    let subject = open().await;
    let name = |number: u32| format!("{number:06}{}", "n".repeat(500));
    // The server takes 8 MiB in one write.
    let all: Vec<_> = (0..20_000).map(name).collect();
    subject.store.apply(all.iter().map(|name| put(name)).collect()).await.unwrap();
    assert!(names(&subject.store).await == all);
    let (gone, left) = all.split_at(19_990);
    let changes = gone.iter().map(|name| RegistryChange::Remove(id("s", name, "p"))).collect();
    subject.store.apply(changes).await.unwrap();
    let subject = subject.reopen().await;
    assert!(names(&subject.store).await == left);
    let session = crate::server::session().await;
    let query = format!("SELECT name FROM {}.registrations", subject.name());
    let rows = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(rows.rows_num(), left.len(), "what was removed takes no space");
}

#[tokio::test]
async fn what_a_failed_registration_wrote_never_counts() {
    let (subject, wire) = (open().await, Wire::new().await);
    let through = CqlOptions {
        hosts: vec![wire.address.clone()],
        request_time: Duration::from_secs(3),
        ..subject.options()
    };
    let store = open_with(&through).await.unwrap();
    store.apply(vec![put("first")]).await.unwrap();
    for kind in [EXECUTE, BATCH] {
        wire.hold(kind, "late");
    }
    let changes = (0..20).map(|number| put(&format!("part {number}")));
    let failed = store.apply(changes.chain([put("late")]).collect()).await;
    assert!(failed.is_err_and(|error| !error.may_have_happened()));
    let wrote = || async {
        let query = format!("SELECT name FROM {}.registrations", subject.name());
        let rows = crate::server::session().await.query_unpaged(query, ()).await.unwrap();
        rows.into_rows_result().unwrap().rows_num()
    };
    assert!(wrote().await > 1, "a part of it is written");
    assert_eq!(names(&store).await, ["first"]);
    wire.release().await;
    store.apply(vec![put("second")]).await.unwrap();
    let registry: Arc<dyn Registry> = subject.registry();
    for registry in [registry, Arc::new(store.clone())] {
        let all = registry.load().await.unwrap();
        let mut names: Vec<_> = all.iter().map(|one| one.id().name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["first", "second"]);
    }
    assert_eq!(wrote().await, 2, "what it wrote is gone");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_change_that_a_former_owner_makes_visible_late_does_not_count() {
    // The first change of its epoch, or a later one.
    for is_first in [true, false] {
        let (subject, wire) = (open().await, Wire::new().await);
        subject.store.apply(vec![put("old")]).await.unwrap();
        let through = CqlOptions { hosts: vec![wire.address.clone()], ..subject.options() };
        let former = open_with(&through).await.unwrap();
        StateStore::claim_epoch(&former).await.unwrap();
        // A first write, which reserves timestamps.
        former.put_note("n", Some("kept".into())).await.unwrap();
        if !is_first {
            former.apply(vec![put("first")]).await.unwrap();
        }
        // The rows pass, and what makes them count does not.
        wire.cut_after(1);
        let mut late = JoinSet::new();
        let changing = former.clone();
        late.spawn(async move { changing.apply(vec![put("late")]).await });
        wire.holds(1).await;
        let subject = subject.reopen().await;
        subject.states().claim_epoch().await.unwrap();
        let counts: &[&str] = if is_first { &["old"] } else { &["first", "old"] };
        assert_eq!(names(&subject.store).await, counts);
        wire.release().await;
        let outcome = late.join_next().await.unwrap().unwrap();
        assert!(matches!(outcome, Err(StoreError::Fenced(_))), "{outcome:?}");
        let next = subject.reopen().await;
        next.states().claim_epoch().await.unwrap();
        assert_eq!(names(&next.store).await, counts);
        former.close().await.unwrap();
    }
}

/// Settings of a proxy that asks the server at this address.
fn serving<'a>(keyspace: &'a str, server: &'a str, port: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut settings = server::settings(keyspace, server);
    settings.extend([
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", port),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ]);
    settings
}

fn many(what: &str) -> Vec<String> {
    (0..MANY).map(|number| format!("{what}{number:05}{}", "x".repeat(60))).collect()
}

/// A spawn of all these names from one definition.
fn spawn_of(names: &[String]) -> Request<Full<Bytes>> {
    let id = |name: &String| ActorId {
        name: name.clone(),
        system: SYSTEM.into(),
        parent: "parent".into(),
    };
    let request = SpawnRequest { actors: names.iter().map(id).collect() };
    let path = format!("/api/v1/system/{SYSTEM}/actors/spawn");
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/octet-stream")
        .body(Full::new(request.encode_to_vec().into()));
    request.expect("a valid request")
}

/// Which of these actors can be called.
async fn callable(client: &mut Client, actors: [&str; 3]) -> [bool; 3] {
    let mut are = [false; 3];
    for (place, actor) in actors.into_iter().enumerate() {
        are[place] = match add(client, actor).await.unwrap() {
            Added::To(_) => true,
            Added::Refused(404, _) => false,
            other @ Added::Refused(..) => panic!("{actor}: {other:?}"),
        };
    }
    are
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_names_are_registered_whole_or_not_at_all_when_a_kill_comes_between() {
    let host = Host::start(Arc::new(Counter::default()));
    let (keyspace, address, port) = (Keyspace::take().await, server::address(), host.port());
    let direct = serving(&keyspace.name, &address, &port);
    let (defined, spawned) = (many("defined"), many("spawned"));
    let definitions = || {
        let parent = definition("parent", Kind::Unnamed);
        let named = defined.iter().skip(1).map(|name| definition(name, Kind::Named));
        std::iter::once(parent).chain(named).collect::<Vec<_>>()
    };
    let new = || registration(None, definitions());
    let asked: [&dyn Fn() -> Request<Full<Bytes>>; 2] = [&new, &|| spawn_of(&spawned)];
    let actors = ["old", defined[7_000].as_str(), spawned[7_000].as_str()];

    let proxy = Proxy::start(&direct).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("old", Kind::Named)]).await;
    drop(client);
    assert!(proxy.terminate(LIMIT).await.success());
    let mut count = [true, false, false];
    for (place, request) in asked.iter().enumerate() {
        let wire = Wire::new().await;
        let proxy = Proxy::start(&serving(&keyspace.name, &wire.address, &port)).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        wire.cut_after(60);
        let request = request();
        let mut asking = JoinSet::new();
        asking.spawn(async move { client.send(request).await });
        wire.holds(1).await;
        proxy.kill().await;
        assert!(asking.join_next().await.unwrap().unwrap().is_err(), "it was not answered");
        assert!(rows(&keyspace.name).await > 100, "a part of it is written");
        wire.release().await;

        let proxy = Proxy::start(&direct).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        assert_eq!(callable(&mut client, actors).await, count, "none of it counts");
        let reply = client.send(asked[place]()).await.unwrap();
        assert_eq!(reply.status, 200, "the same request completes");
        count[place + 1] = true;
        if place > 0 {
            assert_eq!(callable(&mut client, actors).await, count);
        }
        drop(client);
        assert!(proxy.terminate(LIMIT).await.success());
    }
    let proxy = Proxy::start(&direct).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(callable(&mut client, actors).await, count, "all of it is there after a start");
    drop(client);
    assert!(proxy.terminate(LIMIT).await.success());
    let left = rows(&keyspace.name).await;
    assert!(left <= 2 * MANY as usize + 1, "{left} rows: what was interrupted is gone");
    keyspace.give_back();
}

/// How many rows of registrations there are.
async fn rows(keyspace: &str) -> usize {
    let query = format!("SELECT name FROM {keyspace}.registrations");
    let found = server::session().await.query_unpaged(query, ()).await.unwrap();
    found.into_rows_result().unwrap().rows_num()
}
