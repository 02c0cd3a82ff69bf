//! Stores written by earlier versions open and hold the written data.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use support::fixture::copy;
use tidegate::store::{Access, EmbeddedStore, OpenError, Options};
use tidegate_stages::actor::HostAddress;
use tidegate_stages::history::{Interval, Page};
use tidegate_stages::outbox::EffectRows;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore};
use tidegate_stages::state::{ActorState, Any, Head, Status, Tags, Timestamp};
use tidegate_stages::testkit::conformance::effects::{appends, seen};
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{id, keep, save, under};

const ACTORS: u64 = 40;
const ROUNDS: u64 = 6;

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/store-v{format}"))
}

/// One head with something in every field.
fn full_head() -> Head {
    Head {
        version: 70_000,
        revision: 3,
        incarnation: 5,
        epoch: 2,
        status: Status::Deactivated,
        at: Timestamp(1_764_000_000_123_456),
        content: ActorState {
            tags: Tags::from([("colour".into(), "grün".into()), ("empty".into(), String::new())]),
            state: Some(Any {
                type_url: "type.googleapis.com/shop.Cart".into(),
                value: Bytes::from_static(&[10, 3, 0, 255, 1]),
            }),
        },
    }
}

fn registered() -> Vec<Registered> {
    let host = HostAddress::new("127.0.0.1:8090");
    let definition = plain_definition(Bytes::from_static(b"cart"), host.into(), "shop").unwrap();
    vec![
        Registered::definition(Arc::new(definition)),
        Registered::spawned(id("shop", "cart-1", "cart"), None),
        Registered::spawned(id("shop", "cart-2", "cart"), Some(2)),
    ]
}

/// Registered entries as only format 2 keeps them: the parent has changed since the state was first written.
fn registered_anew() -> Registered {
    let key = id("shop", "cart-3", "basket");
    Registered { key, ..Registered::spawned(id("shop", "cart-3", "cart"), None) }
}

/// Writes the golden store of this version's format; run by hand when a format is new.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn write_the_golden_store() {
    let dir = golden(tidegate::store::FORMAT);
    assert!(!dir.exists(), "golden data is never overwritten");
    // Small tables, so that a part of the data is in tables and a part in the journal.
    let options = Options { memtable_bytes: 8 << 10, ..Options::default() };
    let store = EmbeddedStore::open(&dir, options.clone(), plain_definition).unwrap();
    let states: Arc<dyn StateStore> = store.clone();
    assert_eq!(states.claim_epoch().await.unwrap(), 1);
    store.apply(registered().into_iter().map(RegistryChange::Put).collect()).await.unwrap();
    store.apply(vec![RegistryChange::Put(registered_anew())]).await.unwrap();
    let full = Save::of_head(id("shop", "full", "cart"), full_head(), true);
    keep(&states, vec![Save { rows: Some(rows().into()), ..full }]).await;
    keep(&states, vec![Save::of_rows(id("shop", "stateless", ""), 1, appends(0..3))]).await;
    for version in 1..=ROUNDS {
        for number in 0..ACTORS {
            keep(&states, vec![save(&actor(number), version, version.is_multiple_of(2))]).await;
        }
    }
    states.delete(&actor(0)).await.unwrap();
    drop(states);
    store.close().await.unwrap();
    drop(store);
    // Opened again, the engine gives up the space that it had reserved for its journal.
    let store = EmbeddedStore::open(&dir, options, plain_definition).unwrap();
    let states: Arc<dyn StateStore> = store.clone();
    keep(&states, vec![save(&actor(1), ROUNDS + 1, false)]).await;
    store.close().await.unwrap();
    drop((store, states));
    fs::remove_file(dir.join("LOCK")).unwrap();
}

fn actor(number: u64) -> Arc<tidegate_stages::actor::ActorId> {
    id("shop", &format!("actor-{number}"), "")
}

fn rows() -> EffectRows {
    EffectRows { seen: vec![seen("actor-1", 7), seen("actor-2", 8)], ..appends(0..3) }
}

/// Opens a copy of a golden store, as `serve` does.
fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, Options::default(), plain_definition).unwrap()
}

/// Checks what golden stores of every format hold.
async fn holds_what_was_written(store: &Arc<EmbeddedStore>) {
    let states: Arc<dyn StateStore> = store.clone();
    let full = id("shop", "full", "cart");
    assert_eq!(states.load(&full).await.unwrap(), Some(full_head()));
    let revision = states.load_revision(&full, 3).await.unwrap().unwrap();
    assert_eq!(
        (revision.version, revision.status, revision.at, revision.content),
        (70_000, Status::Deactivated, full_head().at, full_head().content)
    );
    for number in 2..ACTORS {
        let newest = save(&actor(number), ROUNDS, true).head;
        assert_eq!(states.load(&actor(number)).await.unwrap(), newest);
        let found = states.load_by_interval(
            &actor(number),
            Interval::between(Timestamp(3_000), Timestamp(9_000)),
            9,
        );
        let found: Vec<_> = found.await.unwrap().items.iter().map(|entry| entry.revision).collect();
        assert_eq!(found, [4, 6]);
    }
    let newest = save(&actor(1), ROUNDS + 1, false).head;
    assert_eq!(states.load(&actor(1)).await.unwrap(), newest);
    assert_eq!(states.load(&actor(0)).await.unwrap(), None, "was deleted");
    assert_eq!(states.load_revision(&actor(0), 2).await.unwrap(), None, "was deleted");
    assert_eq!(states.claim_epoch().await.unwrap(), 2);
    keep(&states, vec![under(2, save(&actor(0), 1, true))]).await;
}

async fn entries(store: &EmbeddedStore) -> Vec<Registered> {
    let mut entries = Registry::load(store).await.unwrap();
    entries.sort_by_key(|entry| entry.id().name.clone());
    entries
}

#[tokio::test]
async fn a_store_of_format_1_becomes_one_of_format_2_and_holds_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(1), dir.path());
    for access in [Access::Read, Access::Write] {
        let options = Options::default();
        let refused = EmbeddedStore::open_to(access, dir.path(), options, plain_definition);
        let error = refused.unwrap_err();
        assert!(matches!(error, OpenError::Older { found: 1, known: 2, .. }), "{error}");
        assert!(error.to_string().contains("tidegate serve"), "{error}");
    }
    let format = || fs::read_to_string(dir.path().join("FORMAT")).unwrap();
    assert_eq!(format(), "tidegate store 1\n");
    let store = open(dir.path());
    assert_eq!(format(), "tidegate store 2\n");
    assert_eq!(entries(&store).await, registered());
    holds_what_was_written(&store).await;
    let full = id("shop", "full", "cart");
    assert_eq!(StateStore::outbox(&*store, &full, None, 9).await.unwrap(), Page::EMPTY);
    assert_eq!(store.pending(None, 9).await.unwrap(), Page::EMPTY);
    store.close().await.unwrap();
    drop(store);
    EmbeddedStore::open_to(Access::Read, dir.path(), Options::default(), plain_definition).unwrap();
}

#[tokio::test]
async fn a_store_of_format_2_opens_and_holds_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(2), dir.path());
    let store = open(dir.path());
    let mut all = registered();
    all.insert(3, registered_anew());
    assert_eq!(entries(&store).await, all);
    let full = id("shop", "full", "cart");
    let outbox = StateStore::outbox(&*store, &full, None, 9).await.unwrap();
    assert_eq!(outbox.items, rows().appends);
    assert_eq!(store.seen(&full).await.unwrap(), rows().seen);
    let pending = store.pending(None, 9).await.unwrap();
    assert_eq!(pending.items, [full, id("shop", "stateless", "")]);
    holds_what_was_written(&store).await;
}
