//! Store: makes a store with tables, journal, history and registry, and checks that all of it is there.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::store::{EmbeddedStore, OpenError, Options};
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Interval;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use tidegate_stages::state::Any;
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{content_mut, id, keep, save};

use crate::files::Files;

const ACTORS: u64 = 20;
/// Commits before and after the store was closed and opened again: the first are mostly in tables.
const CLOSED_AFTER: u64 = 250;
pub(crate) const COMMITS: u64 = 300;
/// Commits after those that the older mark knows of, as after a loss of power.
pub(crate) const UNMARKED: usize = 10;
pub(crate) const MARKED: u64 = COMMITS - UNMARKED as u64;

fn options() -> Options {
    // Small enough that tables are written and compacted during the test.
    Options { memtable_bytes: 16 << 10, ..Options::default() }
}

fn open(dir: &Path) -> Result<Arc<EmbeddedStore>, OpenError> {
    EmbeddedStore::open(dir, options(), plain_definition)
}

fn actor(version: u64) -> Arc<ActorId> {
    id("system", &format!("actor-{}", version % ACTORS), "parent")
}

/// The save of one version: bytes without long runs, so that each flipped bit matters.
fn nth(version: u64) -> Save {
    let mut save = save(&actor(version), version, version.is_multiple_of(3));
    let mut rng = StdRng::seed_from_u64(version);
    let value: Vec<u8> = (0..200).map(|_| rng.random_range(1..=255)).collect();
    content_mut(&mut save).state = Some(Any { type_url: "t".into(), value: value.into() });
    save
}

/// A store with tables, journal, history and registry; as it lies there after closing, and after a kill.
pub(crate) struct Base {
    pub(crate) closed: Files,
    pub(crate) killed: Files,
    /// The mark as it was when only [`MARKED`] commits were acknowledged.
    pub(crate) old_mark: Vec<u8>,
}

pub(crate) async fn base() -> Base {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let states: Arc<dyn StateStore> = store.clone();
    let spawned = Registered::spawned(id("system", "spawned", "parent"), Some(7));
    store.apply(vec![RegistryChange::Put(spawned)]).await.unwrap();
    for version in 1..=CLOSED_AFTER {
        keep(&states, vec![nth(version)]).await;
    }
    store.close().await.unwrap();
    drop((store, states));
    let store = open(dir.path()).unwrap();
    let states: Arc<dyn StateStore> = store.clone();
    let mut old_mark = Vec::new();
    for version in CLOSED_AFTER + 1..=COMMITS {
        keep(&states, vec![nth(version)]).await;
        if version == MARKED {
            old_mark = fs::read(dir.path().join("engine/MARK")).unwrap();
        }
    }
    let killed = Files::read_settled(dir.path());
    store.close().await.unwrap();
    drop((store, states));
    let closed = Files::read_settled(dir.path());
    assert!(closed.0.keys().any(|path| path.to_str().unwrap().contains("1/tables/")), "no table");
    Base { closed, killed, old_mark }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Refused,
    ReadError,
    Whole,
}

/// Opens a store and compares everything with what was acknowledged, up to `from` or later.
pub(crate) async fn outcome(files: &Files, from: u64) -> (Outcome, String) {
    let dir = files.write();
    let store = match open(dir.path()) {
        Ok(store) => store,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(dir.path().to_str().unwrap()), "names no file: {text}");
            return (Outcome::Refused, text);
        }
    };
    let read = compare(&store, from).await;
    store.close().await.unwrap();
    match read {
        Ok(()) => (Outcome::Whole, String::new()),
        Err(error @ StoreError::Corrupt(_)) => (Outcome::ReadError, error.to_string()),
        Err(error) => panic!("damage must be told as such: {error}"),
    }
}

/// # Panics
/// When something is silently missing or different.
async fn compare(store: &Arc<EmbeddedStore>, from: u64) -> Result<(), StoreError> {
    let states: Arc<dyn StateStore> = store.clone();
    let mut heads = Vec::new();
    for number in 0..ACTORS {
        heads.push(states.load(&actor(number)).await?.expect("SILENT LOSS of a head"));
    }
    let newest = heads.iter().map(|head| head.version).max().unwrap();
    assert!((from..=COMMITS).contains(&newest), "SILENT LOSS: newest {newest}, at least {from}");
    for (number, head) in (0..).zip(heads) {
        let version = newest - (newest + ACTORS - number) % ACTORS;
        assert_eq!(Some(head), nth(version).head, "SILENT CHANGE of a head");
    }
    for version in (3..=newest).step_by(3) {
        let revision = states.load_revision(&actor(version), version).await?;
        let revision = revision.expect("SILENT LOSS of a revision");
        assert_eq!(
            revision.content,
            nth(version).head.unwrap().content,
            "SILENT CHANGE of a revision"
        );
    }
    let history = states.load_by_interval(&actor(3), Interval::ALL, 1_000).await?.items;
    let expected = (1..=newest).filter(|v| v % 3 == 0 && v % ACTORS == 3).count();
    assert_eq!(history.len(), expected, "SILENT LOSS in an interval");
    let registered = Registry::load(&**store).await?;
    assert_eq!(registered.len(), 1, "SILENT LOSS of a registration");
    Ok(())
}
