//! The embedded store passes the conformance suite and locks its directory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::unnecessary_wraps, reason = "free space has the shape of its port")]

#[path = "support/clock.rs"]
mod clock;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use tidegate::store::{Access, EmbeddedStore, FreeSpace, Notes, OpenError, Options};
use tidegate_stages::history::{Interval, Keep};
use tidegate_stages::ports::{Registry, StateStore};
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{id, keep, save};

struct Embedded {
    store: Arc<EmbeddedStore>,
    dir: TempDir,
}

fn open_in(dir: &TempDir) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir.path(), Options::default(), plain_definition).unwrap()
}

#[expect(clippy::unused_async, reason = "the suite opens a subject with an async function")]
async fn open() -> Embedded {
    let dir = tempfile::tempdir().unwrap();
    Embedded { store: open_in(&dir), dir }
}

impl Subject for Embedded {
    fn states(&self) -> Arc<dyn StateStore> {
        self.store.clone()
    }
    fn registry(&self) -> Arc<dyn Registry> {
        self.store.clone()
    }
    async fn reopen(self) -> Self {
        self.store.close().await.unwrap();
        drop(self.store);
        Self { store: open_in(&self.dir), dir: self.dir }
    }
}

tidegate_stages::store_conformance!(open);

#[tokio::test]
async fn a_directory_in_use_is_refused_and_names_who_holds_it() {
    let subject = open().await;
    let error =
        EmbeddedStore::open(subject.dir.path(), Options::default(), plain_definition).unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked { holder: Some(id), .. } if *id == std::process::id())
    );
    let text = error.to_string();
    assert!(text.contains("in use by another Tidegate"), "{text}");
    subject.reopen().await;
}

#[tokio::test]
async fn a_later_format_is_refused_naming_both() {
    let subject = open().await;
    subject.store.close().await.unwrap();
    let Embedded { store, dir } = subject;
    drop(store);
    std::fs::write(dir.path().join("FORMAT"), "tidegate store 3\n").unwrap();
    let error = EmbeddedStore::open(dir.path(), Options::default(), plain_definition).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
    let error = EmbeddedStore::open(dir.path(), Options::default(), plain_definition).unwrap_err();
    assert!(matches!(error, OpenError::UnknownEntry { .. }), "{error}");
    assert!(!dir.path().join("engine").exists());
}

#[tokio::test]
async fn a_creation_that_was_interrupted_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("engine.unfinished/keyspaces")).unwrap();
    open_in(&dir).close().await.unwrap();
    // Interrupted later: the engine is whole, FORMAT is not there yet.
    std::fs::remove_file(dir.path().join("FORMAT")).unwrap();
    open_in(&dir).close().await.unwrap();
    assert!(dir.path().join("FORMAT").exists());
}

#[tokio::test]
async fn a_closed_store_refuses_and_can_be_closed_again() {
    let subject = open().await;
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, false)]).await;
    subject.store.close().await.unwrap();
    subject.store.close().await.unwrap();
    assert!(!subject.store.is_healthy());
    assert!(store.save_all(vec![save(&actor, 2, false)]).await[0].is_err());
    assert!(store.load(&actor).await.is_err());
    assert!(store.delete(&actor).await.is_err());
    assert!(store.claim_epoch().await.is_err());
}

#[tokio::test]
async fn a_store_opened_to_read_tells_what_is_there_and_refuses_every_write() {
    let subject = open().await;
    let (actor, other) = (id("s", "a", ""), id("s", "b", ""));
    keep(&subject.states(), vec![save(&actor, 1, true)]).await;
    subject.store.close().await.unwrap();
    let Embedded { store, dir } = subject;
    drop(store);
    let open = |access| {
        EmbeddedStore::open_to(access, dir.path(), Options::default(), plain_definition).unwrap()
    };
    let store = open(Access::Read);
    assert!(store.is_healthy());
    let head = StateStore::load(&*store, &actor).await.unwrap().unwrap();
    assert_eq!(head.version, 1);
    assert!(store.load_revision(&actor, 1).await.unwrap().is_some());
    assert!(store.save_all(vec![save(&other, 1, false)]).await[0].is_err());
    assert!(store.append(other.clone(), vec![head.as_revision()]).await.is_err());
    assert!(store.apply(Vec::new()).await.is_err());
    assert!(store.put_note("n", None).await.is_err());
    assert!(store.prune(&actor, Keep { newest: Some(0), since: None }).await.is_err());
    assert!(store.delete(&actor).await.is_err());
    assert!(store.claim_epoch().await.is_err());
    store.close().await.unwrap();
    assert!(StateStore::load(&*store, &actor).await.is_err(), "it is closed");
    drop(store);
    let store = open(Access::Write);
    assert_eq!(StateStore::load(&*store, &actor).await.unwrap(), Some(head));
    assert_eq!(store.claim_epoch().await.unwrap(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_waits_when_the_store_is_closed_is_still_written() {
    let subject = open().await;
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let calls: Vec<_> =
        (1..=100).map(|version| store.save_all(vec![save(&actor, version, true)])).collect();
    subject.store.close().await.unwrap();
    for call in calls {
        assert!(call.await[0].is_ok());
    }
    drop(store);
    let head = subject.reopen().await.states().load(&actor).await.unwrap().unwrap();
    assert_eq!(head.version, 100);
}

#[tokio::test]
async fn a_long_history_is_deleted_whole_even_when_that_was_interrupted() {
    static COMMITS_LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
    fn free_space(_: &Path) -> io::Result<FreeSpace> {
        let one_less = |left: u64| Some(left.saturating_sub(1));
        let left = COMMITS_LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        Ok(FreeSpace { free: if left == Ok(0) { 0 } else { 1 << 40 }, total: 1 << 40 })
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options { free_space, ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options.clone(), plain_definition).unwrap();
    let states: Arc<dyn StateStore> = store.clone();
    let (actor, other) = (id("s", "a", ""), id("s", "b", ""));
    for start in (1..=10_000).step_by(1_000) {
        keep(&states, (start..start + 1_000).map(|version| save(&actor, version, true)).collect())
            .await;
    }
    keep(&states, vec![save(&other, 1, true)]).await;
    // The head goes, and a part of the history; then the disk is full.
    COMMITS_LEFT.store(2, Ordering::SeqCst);
    assert!(states.delete(&actor).await.is_err());
    assert_eq!(states.load(&actor).await.unwrap(), None);
    assert!(states.load_revision(&actor, 10_000).await.unwrap().is_some());
    store.close().await.unwrap();
    drop((store, states));
    COMMITS_LEFT.store(u64::MAX, Ordering::SeqCst);
    let states: Arc<dyn StateStore> =
        EmbeddedStore::open(dir.path(), options, plain_definition).unwrap();
    keep(&states, vec![save(&actor, 1, true)]).await;
    let all = states.load_by_interval(&actor, Interval::ALL, 9).await.unwrap().items;
    assert_eq!(all.iter().map(|entry| entry.revision).collect::<Vec<_>>(), [1]);
    assert!(states.load_revision(&other, 1).await.unwrap().is_some());
}

#[tokio::test]
async fn histories_keep_their_order_when_the_clock_is_set_back() {
    clock::histories_keep_their_order_when_the_clock_is_set_back(open().await, Arc::default())
        .await;
}
