//! Store faults: no space, failing writes. The store reports what was not written, and recovers by itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::unnecessary_wraps,
    clippy::print_stdout,
    reason = "free space has the shape of its port; a child tells its story"
)]

#[path = "support/namespace.rs"]
mod namespace;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use namespace::{run_alone, run_on_device};
use rustix::process::{Resource, Rlimit, setrlimit};
use tidegate::store::{EmbeddedStore, FreeSpace, Options};
use tidegate_stages::due::{DueEntry, DueKey};
use tidegate_stages::history::Keep;
use tidegate_stages::outbox::EffectSource;
use tidegate_stages::ports::{Save, StateStore, StoreError};
use tidegate_stages::state::{Any, Timestamp};
use tidegate_stages::testkit::conformance::effects::{acknowledged, appends};
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{content_mut, id, keep, save, under};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

/// Longer than the store takes to try again, by far.
const RECOVERY: Duration = Duration::from_mins(1);

fn open(dir: &Path, options: Options) -> (Arc<EmbeddedStore>, Arc<dyn StateStore>) {
    let store = EmbeddedStore::open(dir, options, plain_definition).unwrap();
    (store.clone(), store)
}

async fn version(store: &Arc<dyn StateStore>, name: &str) -> Option<u64> {
    store.load(&id("s", name, "")).await.unwrap().map(|head| head.version)
}

/// Saves until it works again.
async fn keep_when_recovered(store: &Arc<dyn StateStore>, name: &str, version: u64) {
    let deadline = Instant::now() + RECOVERY;
    while let Err(error) = &store.save_all(vec![save(&id("s", name, ""), version, true)]).await[0] {
        assert!(Instant::now() < deadline, "not recovered: {error}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_room_saves_are_refused_as_full_and_taken_again_when_there_is_some() {
    static FREE: AtomicU64 = AtomicU64::new(u64::MAX / 4);
    fn free_space(_: &Path) -> io::Result<FreeSpace> {
        Ok(FreeSpace { free: FREE.load(Ordering::SeqCst), total: 100 << 30 })
    }
    let dir = tempfile::tempdir().unwrap();
    let (opened, store) = open(dir.path(), Options { free_space, ..Options::default() });
    let a = id("s", "a", "");
    keep(&store, vec![save(&a, 1, true)]).await;
    FREE.store(64 << 20, Ordering::SeqCst);
    let refused = &store.save_all(vec![save(&a, 2, true)]).await[0];
    assert!(
        matches!(refused, Err(StoreError::Full(text)) if text.contains("reserve")),
        "{refused:?}"
    );
    let b = id("s", "b", "");
    store.delete(&b).await.expect("a delete may use the reserve");
    assert_eq!(store.claim_epoch().await.expect("so may a claim"), 1);
    let kept = Keep { newest: Some(1), since: None };
    assert_eq!(store.prune(&a, kept).await.expect("and pruning"), 0);
    // To the last byte: a claim is written with the first commit that can be.
    FREE.store(0, Ordering::SeqCst);
    assert!(matches!(store.delete(&b).await, Err(StoreError::Full(_))));
    assert_eq!(store.claim_epoch().await.expect("in memory"), 2);
    FREE.store(64 << 20, Ordering::SeqCst);
    assert_eq!(version(&store, "a").await, Some(1), "reading goes on");
    FREE.store(65 << 20, Ordering::SeqCst);
    assert!(matches!(store.save_all(vec![save(&a, 2, true)]).await[0], Err(StoreError::Fenced(2))));
    keep(&store, vec![under(2, save(&a, 2, true))]).await;
    drop(store);
    drop(opened);
    let (_, store) = open(dir.path(), Options { free_space, ..Options::default() });
    assert_eq!(store.claim_epoch().await.expect("claims"), 3, "the one before was written");
}

#[tokio::test]
async fn on_a_full_disk_what_is_done_is_removed_also_beside_changes_that_are_refused() {
    static FREE: AtomicU64 = AtomicU64::new(u64::MAX / 4);
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    fn free_space(_: &Path) -> io::Result<FreeSpace> {
        while IS_HELD.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(FreeSpace { free: FREE.load(Ordering::SeqCst), total: 100 << 30 })
    }
    let dir = tempfile::tempdir().unwrap();
    let (_opened, store) = open(dir.path(), Options { free_space, ..Options::default() });
    let (a, b) = (id("s", "a", ""), id("s", "b", ""));
    let alone = |rows| Save::of_rows(a.clone(), 1, rows);
    keep(&store, vec![alone(appends(0..3)), save(&b, 1, false)]).await;
    let due = |at| DueKey { at: Timestamp(at), source: EffectSource::default().into() };
    let entry = |at| DueEntry { key: due(at), record: Bytes::from_static(b"call") };
    store.put_due(vec![entry(1), entry(2)]).await.unwrap();
    FREE.store(64 << 20, Ordering::SeqCst);
    let full = |outcome: &Result<(), StoreError>| matches!(outcome, Err(StoreError::Full(_)));
    assert!(full(&store.put_due(vec![entry(3)]).await));
    assert!(
        full(&store.save_all(vec![alone(appends([4]))]).await[0]),
        "the disk is known to be full"
    );
    store.remove_due(vec![due(1)]).await.expect("due work that is done goes");
    keep(&store, vec![alone(acknowledged([0]))]).await;
    // They wait together for the writer.
    let at_writer = store.delete(&id("s", "nobody", ""));
    IS_HELD.store(true, Ordering::SeqCst);
    let held = store.save_all(vec![save(&b, 2, false)]);
    let (removed, answered) =
        (store.remove_due(vec![due(2)]), store.save_all(vec![alone(acknowledged([1]))]));
    let refused = store.save_all(vec![save(&b, 3, false)]);
    IS_HELD.store(false, Ordering::SeqCst);
    at_writer.await.unwrap();
    assert!(full(&held.await[0]) && full(&refused.await[0]));
    removed.await.expect("beside it, too");
    assert!(answered.await[0].is_ok());
    let left = store.outbox(&a, None, 9).await.unwrap().items;
    assert_eq!((left.len(), store.due(None, 9).await.unwrap().items.len()), (1, 0));
    FREE.store(0, Ordering::SeqCst);
    assert!(full(&store.save_all(vec![alone(acknowledged([2]))]).await[0]), "to the last byte");
}

#[tokio::test]
async fn what_was_called_behind_a_failed_save_of_its_actor_fails_with_it() {
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    static REFUSALS: AtomicU64 = AtomicU64::new(0);
    /// Holds the writer, then is full once.
    fn free_space(_: &Path) -> io::Result<FreeSpace> {
        while IS_HELD.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let is_refused = REFUSALS.load(Ordering::SeqCst) > 0;
        if is_refused {
            REFUSALS.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(FreeSpace { free: if is_refused { 0 } else { 1 << 40 }, total: 1 << 40 })
    }
    let dir = tempfile::tempdir().unwrap();
    let (_, store) = open(dir.path(), Options { free_space, ..Options::default() });
    let (a, b) = (id("s", "a", ""), id("s", "b", ""));
    // The writer looks at the disk when it starts; it has started when this is done.
    store.delete(&id("s", "nobody", "")).await.unwrap();
    REFUSALS.store(1, Ordering::SeqCst);
    IS_HELD.store(true, Ordering::SeqCst);
    let first = store.save_all(vec![save(&a, 1, false)]);
    // A deletion is always alone in its commit: what comes after it is in another one than the first.
    let other = store.delete(&id("s", "other", ""));
    let behind = store.save_all(vec![save(&a, 2, false), save(&b, 1, false)]);
    IS_HELD.store(false, Ordering::SeqCst);
    other.await.unwrap();
    // The first answer is there and was not taken: still nobody knows.
    let unknowing = store.save_all(vec![save(&a, 3, false)]);
    let unknowing_alone = unknowing.await;
    assert!(matches!(first.await[0], Err(StoreError::Full(_))));
    let behind = behind.await;
    assert!(matches!(behind[..], [Err(StoreError::Full(_)), Ok(())]), "{behind:?}");
    assert!(matches!(unknowing_alone[..], [Err(StoreError::Full(_))]), "{unknowing_alone:?}");
    assert_eq!(version(&store, "a").await, None);
    // Now the caller knows.
    keep(&store, vec![save(&a, 1, false)]).await;
    assert_eq!(version(&store, "a").await, Some(1));
    assert_eq!(version(&store, "b").await, Some(1));
}

fn journal_end(dir: &Path) -> u64 {
    let engine = fs::read_dir(dir.join("engine")).unwrap().map(|entry| entry.unwrap().path());
    let journal =
        engine.filter(|path| path.extension().is_some_and(|end| end == "jnl")).max().unwrap();
    let bytes = fs::read(journal).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

fn limit_file_size(limit: Option<u64>) {
    setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: None }).unwrap();
}

/// Runs alone in a process of its own: the limit holds for all of it.
#[tokio::test]
#[ignore = "started by the test below"]
async fn inside_a_process_with_a_file_size_limit() {
    // Instead of ending the process, a write beyond the limit fails.
    let _fails = signal(SignalKind::from_raw(25)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (embedded, store) = open(dir.path(), Options::default());
    let a = id("s", "a", "");
    for round in 0..3 {
        let base = round * 10;
        keep(&store, vec![save(&a, base + 1, true)]).await;
        limit_file_size(Some(journal_end(dir.path()) + 5_000));
        let mut large = save(&a, base + 2, true);
        let value = Bytes::from(vec![7; 100_000]);
        content_mut(&mut large).state = Some(Any { type_url: "t".into(), value });
        let failed = &store.save_all(vec![large]).await[0];
        let Err(StoreError::Unavailable(text)) = failed else {
            panic!("known not to be written: {failed:?}")
        };
        println!("{text}");
        assert_eq!(version(&store, "a").await, Some(base + 1), "reading goes on, on the old state");
        limit_file_size(None);
        keep_when_recovered(&store, "a", base + 3).await;
        assert!(embedded.is_healthy());
    }
    embedded.close().await.unwrap();
    drop((embedded, store));
    let (_, store) = open(dir.path(), Options::default());
    assert_eq!(version(&store, "a").await, Some(23));
    for kept in [1, 3, 11, 13, 21, 23] {
        assert!(store.load_revision(&a, kept).await.unwrap().is_some());
    }
    for lost in [2, 12, 22] {
        assert!(store.load_revision(&a, lost).await.unwrap().is_none());
    }
}

/// Runs in a mount namespace of its own, in a working directory of 24 MiB.
#[tokio::test]
#[ignore = "started by the test below"]
async fn inside_a_small_device() {
    let here = Path::new(".");
    let (embedded, store) = open(&here.join("data"), Options::default());
    let a = id("s", "a", "");
    keep(&store, vec![save(&a, 1, true)]).await;
    // Below the reserve, an eighth of the device.
    fs::write(here.join("ballast"), vec![1; 22 << 20]).unwrap();
    let refused = &store.save_all(vec![save(&a, 2, true)]).await[0];
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    fs::remove_file(here.join("ballast")).unwrap();
    keep(&store, vec![save(&a, 2, true)]).await;
    embedded.close().await.unwrap();
    drop((embedded, store));

    // The check is blind: the device runs full inside a write, or while a table is written.
    let blind = |_: &Path| Ok(FreeSpace { free: 1 << 40, total: 1 << 40 });
    let options = Options { free_space: blind, ..Options::default() };
    let (embedded, store) = open(&here.join("data"), options);
    for round in 1..=3 {
        let mut version_ = round * 10_000;
        let failed = loop {
            version_ += 1;
            let mut large = save(&a, version_, true);
            let value = Bytes::from(vec![7; 50_000]);
            content_mut(&mut large).state = Some(Any { type_url: "t".into(), value });
            if version_ == round * 10_000 + 20 {
                let free = FreeSpace::of(here).unwrap().free;
                fs::write(here.join("ballast"), vec![1; usize::try_from(free).unwrap() - 150_000])
                    .unwrap();
            }
            if let Err(error) = &store.save_all(vec![large]).await[0] {
                break error.clone();
            }
        };
        println!("round {round}: {failed}");
        assert!(!failed.may_have_happened(), "{failed:?}");
        assert_eq!(version(&store, "a").await, Some(version_ - 1), "reading goes on");
        fs::remove_file(here.join("ballast")).unwrap();
        store.delete(&a).await.unwrap_or_else(|error| println!("not deleted: {error}"));
        let started = Instant::now();
        keep_when_recovered(&store, "a", version_ + 1).await;
        println!("recovered after {:?}", started.elapsed());
        assert_eq!(version(&store, "a").await, Some(version_ + 1));
    }
    embedded.close().await.unwrap();
}

#[test]
fn a_commit_that_fails_halfway_is_known_not_to_be_written_and_the_store_recovers() {
    run_alone("inside_a_process_with_a_file_size_limit");
}

#[test]
fn a_device_that_runs_full_loses_nothing_and_the_store_recovers() {
    run_on_device("24m", "inside_a_small_device");
}
