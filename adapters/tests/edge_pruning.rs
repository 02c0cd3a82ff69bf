//! Pruning a history of large revisions: the thread that writes all commits reads none of them.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidegate::store::{EmbeddedStore, Options};
use tidegate_stages::history::Keep;
use tidegate_stages::ports::StateStore;
use tidegate_stages::state::Any;
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{content_mut, id, keep, save};
use tokio_util::sync::CancellationToken;

const REVISIONS: u64 = 300;
const KEPT: u64 = 100;
const REVISION_BYTES: usize = 128 << 10;

/// Bytes that the store's writer has read so far, from the disk or the system's cache.
fn read_by_the_writer() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux");
    let mut threads = threads.map(|thread| thread.expect("an entry").path());
    let is_writer = |name: String| name.trim() == "tidegate-store";
    let writer = threads
        .find(|thread| fs::read_to_string(thread.join("comm")).is_ok_and(is_writer))
        .expect("the store has a writer");
    let counts = fs::read_to_string(writer.join("io")).expect("the kernel counts");
    let counts: HashMap<_, _> = counts.lines().filter_map(|line| line.split_once(": ")).collect();
    counts["rchar"].parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_revisions_are_pruned_while_commits_go_on_and_the_writer_reads_none_of_them() {
    let dir = tempfile::tempdir().expect("a directory");
    // Small, so that nearly all revisions have to be read from tables.
    let options = Options { cache_bytes: 1 << 20, memtable_bytes: 1 << 20, ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options, plain_definition).expect("it opens");
    let store: Arc<dyn StateStore> = store;
    let large = id("s", "large", "");
    for version in 1..=REVISIONS {
        let mut one = save(&large, version, true);
        let bytes = vec![u8::try_from(version % 251).expect("small"); REVISION_BYTES];
        content_mut(&mut one).state =
            Some(Any { type_url: String::new(), value: Bytes::from(bytes) });
        keep(&store, vec![one]).await;
    }

    let (stopped, saved) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let saving = {
        let (store, stopped, saved) = (store.clone(), stopped.clone(), saved.clone());
        async move {
            for version in 1.. {
                if stopped.is_cancelled() {
                    break;
                }
                keep(&store, vec![save(&id("s", "other", ""), version, true)]).await;
                saved.store(version, Ordering::SeqCst);
            }
        }
    };
    let mut background = tokio::task::JoinSet::new();
    background.spawn(saving);
    let before = read_by_the_writer();
    let dropped =
        store.prune(&large, Keep { newest: Some(KEPT), since: None }).await.expect("it prunes");
    let read = read_by_the_writer() - before;
    stopped.cancel();
    background.join_all().await;

    eprintln!(
        "{dropped} revisions dropped; the writer read {read} bytes and made {} other commits meanwhile",
        saved.load(Ordering::SeqCst)
    );
    assert_eq!(dropped, REVISIONS - KEPT);
    assert!(store.load_revision(&large, KEPT * 2).await.expect("it reads").is_none());
    assert!(store.load_revision(&large, KEPT * 2 + 1).await.expect("it reads").is_some());
    assert!(saved.load(Ordering::SeqCst) > 0, "commits go on");
    assert!(read < REVISION_BYTES as u64, "the writer read {read} bytes");
}
