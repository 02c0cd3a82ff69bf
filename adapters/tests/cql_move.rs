//! An installation moves from a directory into a CQL server and back, complete; its states are sealed again
//! in the server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "cql/server.rs"]
mod server;
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use support::tool::{run, store_in};
use tidegate::store::{EmbeddedStore, Options};
use tidegate::wire;
use tidegate_stages::actor::{ActorId, HostAddress};
use tidegate_stages::outbox::EffectRows;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore};
use tidegate_stages::state::{ActorState, Any, Head, Timestamp};
use tidegate_stages::testkit::conformance::effects::{appends, seen};

use prost::Message;
use server::{Keyspace, address};
use support::counter::{SYSTEM, definition};
use support::proto::Kind;

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ACTORS: u64 = 60;

fn actor(number: u64) -> Arc<ActorId> {
    let name = format!("cart {number}/✓");
    Arc::new(ActorId { name, system: SYSTEM.into(), parent: "cart".into() })
}

fn head(number: u64, revision: u64, epoch: u64) -> Head {
    let state =
        Any { type_url: "t/Cart".into(), value: format!("secret {number} {revision}").into() };
    let content = ActorState { state: Some(state), ..ActorState::default() };
    // An hour between two revisions: histories span partitions of the database.
    let at = Timestamp(1_764_000_000_123_456 + revision * 3_600_000_000);
    Head { version: revision + 7, revision, incarnation: 3, epoch, at, content, ..Head::default() }
}

async fn fill(dir: &Path) {
    let store = EmbeddedStore::open(dir, Options::default(), wire::definition).unwrap();
    let epoch = store.claim_epoch().await.unwrap();
    let raw = definition("cart", Kind::Unnamed).encode_to_vec().into();
    let cart = wire::definition(raw, HostAddress::new("127.0.0.1:8090").into(), SYSTEM).unwrap();
    let mut entries = vec![RegistryChange::Put(Registered::definition(Arc::new(cart)))];
    let mut saves = Vec::new();
    for number in 0..ACTORS {
        let id = actor(number);
        entries.push(RegistryChange::Put(Registered::spawned(id.clone(), None)));
        let revisions = if number == 5 { 600 } else { number % 12 };
        let history = (1..=revisions).map(|revision| head(number, revision, epoch).as_revision());
        store.append(id.clone(), history.collect()).await.unwrap();
        let save = Save::of_head(id, head(number, revisions, epoch), false);
        // More effects than fit a page, a few, or none.
        let rows = match number {
            5 => Some(appends(0..300)),
            6 => Some(EffectRows { seen: vec![seen("a", 7), seen("b", 1)], ..appends(1..3) }),
            _ => None,
        };
        saves.push(Save { rows: rows.map(Box::new), ..save });
    }
    // An actor that has no state and has seen an effect, and two that are deleted: with an effect to deliver, and one seen.
    let rows = |number, rows| Save::of_rows(actor(number), epoch, rows);
    entries.push(RegistryChange::Put(Registered::spawned(actor(100), None)));
    saves.push(rows(100, EffectRows { seen: vec![seen("a", 8)], ..EffectRows::default() }));
    saves.push(rows(101, appends(2..3)));
    saves.push(rows(102, EffectRows { seen: vec![seen("b", 9)], ..EffectRows::default() }));
    entries
        .extend([101, 102].map(|number| RegistryChange::Put(Registered::deleted(actor(number)))));
    store.apply(entries).await.unwrap();
    store.save_all(saves).await.into_iter().for_each(Result::unwrap);
    store.close().await.unwrap();
}

/// What an export holds: its lines without header, sums and what an import claims anew, with actors in the order of their names.
fn content(file: &Path) -> Vec<Vec<Value>> {
    let text = fs::read_to_string(file).unwrap();
    let mut parts = vec![Vec::new()];
    for line in text.lines().skip(1) {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("sum").unwrap();
        for (kind, claimed) in [("head", "epoch"), ("outbox", "epoch"), ("outbox", "place")] {
            if let Some(record) = line.get_mut(kind).and_then(Value::as_object_mut) {
                record.remove(claimed).unwrap();
            }
        }
        if line.get("actor").is_some() || line.get("end").is_some() {
            parts.push(Vec::new());
        }
        parts.last_mut().unwrap().push(line);
    }
    parts.sort_by_key(|part| part[0].to_string());
    parts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_moves_into_a_database_and_back_and_its_key_is_changed_there() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let text = |name: &str| place(name).to_str().unwrap().to_owned();
    let (server, keyspace) = (address(), Keyspace::new());
    let (host, port) = server.rsplit_once(':').unwrap();
    let keyspace = keyspace.options().keyspace;
    let database = |key: &'static str, old: &'static str| {
        vec![
            ("PROXY_DATABASE_TYPE", "scylla"),
            ("PROXY_DATABASE_HOST", host),
            ("PROXY_DATABASE_PORT", port),
            ("PROXY_DATABASE_NAME", keyspace.as_str()),
            ("SPAWN_STATESTORE_KEY", key),
            ("TIDEGATE_STATESTORE_OLD_KEYS", old),
            ("TIDEGATE_DATABASE_REPLICATION", "1"),
        ]
    };
    fill(&place("store")).await;
    run(&["export", &text("first")], &store_in(&place("store"))).await.said();
    run(&["import", &text("first")], &database(FIRST, "")).await.said();
    let refused = run(&["import", &text("first")], &database(FIRST, "")).await.refused(64);
    assert!(refused.contains("--merge"), "{refused}");
    for key in ["", SECOND] {
        run(&["export", &text("none")], &database(key, "")).await.refused(78);
    }
    run(&["export", &text("second")], &database(FIRST, "")).await.said();
    assert_eq!(content(&place("second")), content(&place("first")));

    let revisions =
        (0..ACTORS).map(|number| if number == 5 { 600 } else { number % 12 }).sum::<u64>();
    let said = run(&["reseal"], &database(SECOND, FIRST)).await.said();
    let all = format!(
        "sealed again {ACTORS} of {ACTORS} states, {revisions} of {revisions} revisions and 303 of 303 undelivered effects\n"
    );
    assert!(said.starts_with(&all), "{said}");
    run(&["reseal"], &database(FIRST, "")).await.refused(78);
    run(&["export", &text("third")], &database(SECOND, "")).await.said();
    assert_eq!(content(&place("third")), content(&place("first")));

    run(&["import", &text("third")], &store_in(&place("back"))).await.said();
    run(&["export", &text("fourth")], &store_in(&place("back"))).await.said();
    assert_eq!(content(&place("fourth")), content(&place("first")));
}
