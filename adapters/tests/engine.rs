//! Damage trials: whatever happens to a file, the store refuses to open, or says so on reading, or has lost nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was struck is the report of a failure")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tidegate::store::{EmbeddedStore, OpenError, Options};
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Interval;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use tidegate_stages::state::Any;
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{id, keep, save};

const SEED: u64 = 0x7d1e_9a7e;
const ACTORS: u64 = 20;
/// Commits before and after the store was closed and opened again: the first are mostly in tables.
const CLOSED_AFTER: u64 = 250;
const COMMITS: u64 = 300;
/// Commits after those that the older mark knows of, as after a loss of power.
const UNMARKED: usize = 10;
const MARKED: u64 = COMMITS - UNMARKED as u64;

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
    save.head.content.state = Some(Any { type_url: "t".into(), value: value.into() });
    save
}

/// The files of a store, held in memory: trailing zeros are left to the length.
#[derive(Clone, PartialEq)]
struct Files(BTreeMap<PathBuf, (Vec<u8>, u64)>);

impl Files {
    fn read(dir: &Path) -> Self {
        fn walk(root: &Path, dir: &Path, files: &mut Files) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, files);
                } else if let Ok(mut bytes) = fs::read(&path) {
                    let len = bytes.len() as u64;
                    bytes
                        .truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
                    files.0.insert(path.strip_prefix(root).unwrap().into(), (bytes, len));
                }
            }
        }
        let mut files = Self(BTreeMap::new());
        walk(dir, dir, &mut files);
        files
    }

    /// Reads until nothing moves: background work may be under way.
    fn read_settled(dir: &Path) -> Self {
        let mut before = Self::read(dir);
        for _ in 0..100 {
            let after = Self::read(dir);
            if before == after {
                return after;
            }
            before = after;
        }
        panic!("the files of an idle store keep changing");
    }

    fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, (bytes, len)) in &self.0 {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::create(path).unwrap();
            file.set_len(*len).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
        fs::create_dir_all(dir.path().join("engine/keyspaces/2/tables")).unwrap();
        dir
    }

    fn find(&self, end: &str) -> PathBuf {
        self.0.keys().find(|path| path.to_str().unwrap().ends_with(end)).unwrap().clone()
    }

    fn bytes(&mut self, path: &Path) -> &mut Vec<u8> {
        &mut self.0.get_mut(path).unwrap().0
    }
}

/// A store with tables, journal, history and registry; as it lies there after closing, and after a kill.
struct Base {
    closed: Files,
    killed: Files,
    /// The mark as it was when only [`MARKED`] commits were acknowledged.
    old_mark: Vec<u8>,
}

async fn base() -> Base {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let states: Arc<dyn StateStore> = store.clone();
    let spawned = Registered::Spawned { id: id("system", "spawned", "parent"), revision: Some(7) };
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
enum Outcome {
    Refused,
    ReadError,
    Whole,
}

/// Opens a store and compares everything with what was acknowledged, up to `from` or later.
async fn outcome(files: &Files, from: u64) -> (Outcome, String) {
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
        assert_eq!(head, nth(version).head, "SILENT CHANGE of a head");
    }
    for version in (3..=newest).step_by(3) {
        let revision = states.load_revision(&actor(version), version).await?;
        let revision = revision.expect("SILENT LOSS of a revision");
        assert_eq!(revision.content, nth(version).head.content, "SILENT CHANGE of a revision");
    }
    let history = states.load_by_interval(&actor(3), Interval::ALL, 1_000).await?.items;
    let expected = (1..=newest).filter(|v| v % 3 == 0 && v % ACTORS == 3).count();
    assert_eq!(history.len(), expected, "SILENT LOSS in an interval");
    let registered = Registry::load(&**store).await?;
    assert_eq!(registered.len(), 1, "SILENT LOSS of a registration");
    Ok(())
}

/// Where to strike: each file gets its share, however small, and large ones are struck all over.
fn places(files: &Files, per_file: usize, rng: &mut StdRng) -> Vec<(PathBuf, usize)> {
    let mut places = Vec::new();
    for (path, (bytes, _)) in &files.0 {
        if !bytes.is_empty() {
            let share = if path.extension().is_some_and(|end| end == "jnl") { 6 } else { 1 };
            let spots = (0..per_file * share).map(|_| rng.random_range(0..bytes.len()));
            places.extend(spots.map(|at| (path.clone(), at)));
        }
    }
    places
}

async fn strike(name: &str, files: &Files, per_file: usize, hit: fn(&mut [u8], &mut StdRng)) {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut counts: BTreeMap<(String, Outcome), u32> = BTreeMap::new();
    for (path, at) in places(files, per_file, &mut rng) {
        let mut damaged = files.clone();
        hit(&mut damaged.bytes(&path)[at..], &mut rng);
        println!("{name}: {} at {at}", path.display());
        let (outcome, _) = outcome(&damaged, COMMITS).await;
        let kind = path.extension().map_or_else(
            || path.parent().unwrap().file_name().map_or("file", |name| name.to_str().unwrap()),
            |extension| extension.to_str().unwrap(),
        );
        *counts.entry((kind.into(), outcome)).or_default() += 1;
    }
    println!("{name}: {counts:?}");
    assert!(counts.keys().any(|(_, outcome)| *outcome == Outcome::Refused));
}

fn flip_a_bit(bytes: &mut [u8], rng: &mut StdRng) {
    bytes[0] ^= 1 << rng.random_range(0..8);
}

fn punch_a_hole(bytes: &mut [u8], _: &mut StdRng) {
    let len = bytes.len().min(16);
    bytes[..len].fill(0);
}

#[tokio::test]
async fn no_damage_to_any_file_loses_anything_in_silence() {
    let base = base().await;
    assert_eq!(outcome(&base.closed, COMMITS).await.0, Outcome::Whole);
    assert_eq!(outcome(&base.killed, COMMITS).await.0, Outcome::Whole);
    strike("a bit, closed", &base.closed, 8, flip_a_bit).await;
    strike("a bit, killed", &base.killed, 6, flip_a_bit).await;
    strike("a hole, closed", &base.closed, 4, punch_a_hole).await;
    strike("a hole, killed", &base.killed, 4, punch_a_hole).await;
    tails(&base).await;
}

/// The journal's end, as a loss of power leaves it, and as it must not be.
async fn tails(base: &Base) {
    let mut rng = StdRng::seed_from_u64(SEED);
    let journal = base.killed.find(".jnl");
    let mut lost_power = base.killed.clone();
    lost_power.bytes(Path::new("engine/MARK")).clone_from(&base.old_mark);
    let len = lost_power.0[&journal].0.len();
    let starts = batch_starts(&lost_power.0[&journal].0);
    let after_mark = starts[starts.len() - UNMARKED];
    let last = *starts.last().unwrap();

    for _ in 0..20 {
        // Cut anywhere after the mark: opens with what is whole.
        let at = rng.random_range(after_mark..len);
        let mut torn = lost_power.clone();
        torn.bytes(&journal).truncate(at);
        let (outcome_, text) = outcome(&torn, MARKED).await;
        assert_eq!(outcome_, Outcome::Whole, "cut at {at} of {len}: {text}");

        // A hole in the last commit: opens without it.
        let at = rng.random_range(last..len);
        let mut torn = lost_power.clone();
        punch_a_hole(&mut torn.bytes(&journal)[at..], &mut rng);
        let (outcome_, text) = outcome(&torn, COMMITS - 1).await;
        assert_eq!(outcome_, Outcome::Whole, "hole at {at} of {len}: {text}");

        // A hole before the last commit is no torn tail, marked or not.
        let at = rng.random_range(0..last - 16);
        let mut damaged = lost_power.clone();
        punch_a_hole(&mut damaged.bytes(&journal)[at..], &mut rng);
        let (outcome_, text) = outcome(&damaged, COMMITS).await;
        assert_eq!(outcome_, Outcome::Refused, "hole at {at} of {len}");
        assert!(text.contains(".jnl"), "{text}");

        // Cut before what was acknowledged.
        let at = rng.random_range(0..last);
        let mut cut = base.killed.clone();
        cut.bytes(&journal).truncate(at);
        let (outcome_, text) = outcome(&cut, COMMITS).await;
        assert_eq!(outcome_, Outcome::Refused, "cut at {at}");
        assert!(text.contains(".jnl") || at == 0, "{text}");
    }

    // A whole commit is missing from the middle, or there twice.
    let (from, to) = (starts[starts.len() - 5], starts[starts.len() - 4]);
    let mut missing = lost_power.clone();
    missing.bytes(&journal).drain(from..to);
    assert_eq!(outcome(&missing, COMMITS).await.0, Outcome::Refused);
    let mut twice = lost_power.clone();
    let copy = twice.bytes(&journal)[from..to].to_vec();
    twice.bytes(&journal).splice(from..from, copy);
    assert_eq!(outcome(&twice, COMMITS).await.0, Outcome::Refused);
}

/// Where each commit of a journal begins, found by the key of its record.
fn batch_starts(journal: &[u8]) -> Vec<usize> {
    let key = b"m/tidegate-commit";
    let places = journal.windows(key.len()).enumerate().filter(|(_, window)| window == key);
    places.map(|(at, _)| at - 34).collect()
}
