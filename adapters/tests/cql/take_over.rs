//! The built binary takes an actor with effects over before its first turn: what a former owner still writes is lost.

use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::SystemClock;
use tidegate::store::CqlStore;
use tidegate::wire;
use tidegate_stages::outbox::EffectRows;
use tidegate_stages::ports::{Save, StateStore};
use tidegate_stages::testkit::conformance::effects::{appends, seen};
use tidegate_stages::testkit::conformance::states::{id, keep};

use crate::server::{self, Keyspace};
use crate::support::client::Client;
use crate::support::counter::{Added, Counter, SYSTEM, add, definition, get, register};
use crate::support::host::Host;
use crate::support::proto::Kind;
use crate::support::proxy::Proxy;

const LIMIT: Duration = Duration::from_mins(1);
const NAMES: [&str; 2] = ["called", "untouched"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_that_a_former_owner_writes_late_do_not_count_once_an_actor_was_called() {
    let host = Host::start(Arc::new(Counter::default()));
    let (keyspace, address, port) = (Keyspace::take().await, server::address(), host.port());
    let mut settings = server::settings(&keyspace.name, &address);
    settings.extend([("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", port.as_str())]);
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let definitions = NAMES.map(|name| definition(name, Kind::Named));
    register(&mut client, definitions.into()).await;
    for name in NAMES {
        add(&mut client, name).await.unwrap();
    }
    drop(client);
    assert!(proxy.terminate(LIMIT).await.success());

    let open = async || {
        CqlStore::open(&keyspace.options(), Arc::new(SystemClock), wire::definition).await.unwrap()
    };
    let store = open().await;
    let states: Arc<dyn StateStore> = Arc::new(store.clone());
    let former = states.claim_epoch().await.unwrap();
    let rows = EffectRows { seen: vec![seen("moe", 7)], ..appends(0..1) };
    let actors = NAMES.map(|name| id(SYSTEM, name, ""));
    keep(
        &states,
        // The one that has nothing to deliver is not taken over by a start, but by its first turn.
        actors
            .iter()
            .zip([rows.clone(), EffectRows { seen: rows.seen.clone(), ..EffectRows::default() }])
            .map(|(actor, rows)| Save::of_rows(actor.clone(), former, rows))
            .collect(),
    )
    .await;
    drop(states);
    store.close().await.unwrap();

    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(get(&mut client, "called").await, 1);
    // The rest of a commit of the former owner, which was on its way, from a machine whose clock is ahead.
    let session = server::session().await;
    for name in NAMES {
        let late = format!(
            "INSERT INTO {}.heads (system, actor, parent, kind, epoch, place, format, effect, value, sealed) \
             VALUES ('{SYSTEM}', '{name}', '', 5, {former}, 9, 1, ({former}, 1, 9), 0x00, false) \
             USING TIMESTAMP 4000000000000000",
            keyspace.name
        );
        session.query_unpaged(late, ()).await.unwrap();
    }
    assert!(matches!(add(&mut client, "called").await.unwrap(), Added::To(2)));
    drop(client);
    assert!(proxy.terminate(LIMIT).await.success());

    let store = open().await;
    for (actor, numbers) in actors.iter().zip([[0], [9]]) {
        let outbox = StateStore::outbox(&store, actor, None, 9).await.unwrap().items;
        let found: Vec<_> = outbox.iter().map(|row| row.id.number).collect();
        assert_eq!(found, numbers, "{actor}");
        assert_eq!(StateStore::seen(&store, actor).await.unwrap(), rows.seen, "{actor}");
    }
    store.close().await.unwrap();
    keyspace.give_back();
}
