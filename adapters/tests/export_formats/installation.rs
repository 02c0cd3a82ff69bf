//! An installation with everything that a store holds, and what an export says of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use serde_json::Value;
use tidegate::store::{EmbeddedStore, Options};
use tidegate::wire;
use tidegate_stages::actor::{ActorId, HostAddress};
use tidegate_stages::outbox::EffectRows;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore};
use tidegate_stages::state::{ActorState, Any, Head, Timestamp};
use tidegate_stages::testkit::conformance::effects::{appends, seen};
use tidegate_stages::testkit::conformance::states::{id, keep};

use crate::support::counter::definition;
use crate::support::proto::Kind;
use crate::support::tool::{run, store_in};

/// The key of the sealed fixtures.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Effects of one actor: more than fit a page.
const MANY: u64 = 300;

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, Options::default(), wire::definition).unwrap()
}

/// What an export holds: its lines without header, sums, what an import claims anew and what format 1 alone has.
pub(crate) fn content(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().skip(1).map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let members = line.as_object_mut().unwrap();
        members.remove("sum").unwrap();
        for (kind, claimed) in
            [("head", "epoch"), ("head", "outbox"), ("outbox", "epoch"), ("outbox", "place")]
        {
            if let Some(record) = members.get_mut(kind).and_then(Value::as_object_mut) {
                record.remove(claimed);
            }
        }
        if let Some(end) = members.get_mut("end").and_then(Value::as_object_mut) {
            end.entry("outbox").or_insert(0.into());
            end.entry("seen").or_insert(0.into());
        }
        line
    });
    lines.collect()
}

pub(crate) async fn export(store: &Path, file: &Path) -> String {
    run(&["export", text(file)], &store_in(store)).await.said()
}

/// With the key of the sealed fixtures.
pub(crate) fn keyed(store: &Path) -> Vec<(&str, &str)> {
    [store_in(store), vec![("SPAWN_STATESTORE_KEY", KEY)]].concat()
}

pub(crate) fn joe() -> Arc<ActorId> {
    id("shop", "joe", "cart")
}

pub(crate) fn rows(of: std::ops::Range<u64>, sources: &[(&str, u64)]) -> EffectRows {
    EffectRows {
        seen: sources.iter().map(|(name, number)| seen(name, *number)).collect(),
        ..appends(of)
    }
}

/// A store with everything that format 2 keeps.
pub(crate) async fn fill(dir: &Path) {
    let store = open(dir);
    let states: Arc<dyn StateStore> = store.clone();
    let epoch = states.claim_epoch().await.unwrap();
    let definition = |name: &str| {
        let mut actor = definition(name, Kind::Unnamed);
        actor.id.as_mut().unwrap().system = "shop".into();
        let raw = actor.encode_to_vec().into();
        let definition =
            wire::definition(raw, HostAddress::new("127.0.0.1:8090").into(), "shop").unwrap();
        Registered::definition(Arc::new(definition))
    };
    let moved = Registered {
        key: id("shop", "ann", "basket"),
        ..Registered::spawned(id("shop", "ann", "cart"), None)
    };
    let entries = [
        definition("basket"),
        definition("cart"),
        Registered::spawned(joe(), None),
        Registered::spawned(id("shop", "till", "cart"), None),
        moved,
        Registered::deleted(id("shop", "gone", "cart")),
    ];
    store.apply(entries.into_iter().map(RegistryChange::Put).collect()).await.unwrap();
    let head = |revision| Head {
        version: revision + 3,
        revision,
        incarnation: 2,
        epoch,
        at: Timestamp(1_764_000_000_123_456 + revision),
        content: ActorState {
            tags: [("colour".to_owned(), "grün".to_owned())].into(),
            state: Some(Any {
                type_url: "t/Cart".into(),
                value: format!("secret {revision}").into(),
            }),
        },
        ..Head::default()
    };
    let with = |save: Save, rows: EffectRows| Save { rows: Some(rows.into()), ..save };
    for revision in 1..=3 {
        let rows = if revision == 2 {
            rows(0..3, &[("till", 7), ("ann", 2)])
        } else {
            EffectRows::default()
        };
        keep(&states, vec![with(Save::of_head(joe(), head(revision), true), rows)]).await;
    }
    let ann = Save::of_head(id("shop", "ann", "basket"), head(1), true);
    keep(&states, vec![with(ann, rows(0..MANY, &[]))]).await;
    // A definition without a state that was the target of an effect, a stateless source, and one that is deleted.
    let alone =
        |name: &str, parent: &str, rows| Save::of_rows(id("shop", name, parent), epoch, rows);
    keep(
        &states,
        vec![alone("till", "cart", rows(0..0, &[("joe", 1)])), alone("cart", "", rows(0..2, &[]))],
    )
    .await;
    keep(&states, vec![alone("gone", "cart", rows(4..6, &[("joe", 9)]))]).await;
    drop(states);
    store.close().await.unwrap();
}
