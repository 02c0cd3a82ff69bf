//! Bare fjall: the bare engine of the embedded store, as its upper limit.
//!
//! It has the same keyspaces and settings, keys and values of the same length, and one thread that writes all waiting changes as
//! one durable batch. It lacks what the store adds: records, commit numbers, the mark, the check of free space, and bounds.

use std::path::Path;
use std::thread::JoinHandle;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Slice};
use prost::Message;
use tidegate::proto::tidegate::store::v1 as stored;
use tidegate::store::Options;
use tidegate_stages::actor::ActorId;
use tokio::sync::oneshot;

use super::storage::{Change, STATE_BYTES, STATE_URL, Storage, state, time};

/// Most changes that wait for the thread, and most changes in one batch.
const BATCH: usize = 4_096;
/// The store's own value.
const JOURNAL_BYTES: u64 = 64 << 20;

/// A change that waits for the thread.
struct Job {
    head: (Slice, Slice),
    revision: Option<(Slice, Slice)>,
    done: oneshot::Sender<()>,
}

/// The engine; see the [module](self).
pub struct BareFjall {
    jobs: Option<flume::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    current: Keyspace,
    history: Keyspace,
    /// The bytes of a record beside its state.
    around: Vec<u8>,
}

impl std::fmt::Debug for BareFjall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareFjall").finish_non_exhaustive()
    }
}

impl BareFjall {
    /// Opens the engine in its own directory.
    ///
    /// # Panics
    /// When that fails.
    pub fn open(directory: &Path) -> BareFjall {
        let settings = Options::default();
        let database = Database::builder(directory)
            .cache_size(settings.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(2)
            .manual_journal_persist(true)
            .open();
        let database = database.expect("the engine opens");
        let keyspace = |name| {
            let options =
                || KeyspaceCreateOptions::default().max_memtable_size(settings.memtable_bytes);
            database.keyspace(name, options).expect("a keyspace")
        };
        let (current, history) = (keyspace("current"), keyspace("history"));
        let (jobs, waiting) = flume::bounded(BATCH);
        let spaces = (current.clone(), history.clone());
        let writer = std::thread::Builder::new().name("bare-engine".into());
        let writer = writer.spawn(move || write(&database, &spaces, &waiting));
        let (jobs, writer) = (Some(jobs), Some(writer.expect("a thread starts")));
        BareFjall { jobs, writer, current, history, around: vec![1; around()] }
    }

    fn record(&self, state: &[u8]) -> Slice {
        let mut record = Vec::with_capacity(self.around.len() + state.len());
        record.extend_from_slice(&self.around);
        record.extend_from_slice(state);
        record.into()
    }
}

impl Drop for BareFjall {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let ended = self.writer.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()), "the writer does not panic");
    }
}

/// Writes all waiting changes as one durable batch, in a loop.
fn write(database: &Database, spaces: &(Keyspace, Keyspace), jobs: &flume::Receiver<Job>) {
    let (current, history) = spaces;
    while let Ok(first) = jobs.recv() {
        let waiting = jobs.try_iter().take(BATCH - 1);
        let mut batch = OwnedWriteBatch::with_capacity(database.clone(), 2 * (jobs.len() + 1))
            .durability(Some(PersistMode::SyncData));
        let mut done = Vec::with_capacity(jobs.len() + 1);
        for Job { head, revision, done: answer } in std::iter::once(first).chain(waiting) {
            batch.insert(current, head.0, head.1);
            if let Some((key, value)) = revision {
                batch.insert(history, key, value);
            }
            done.push(answer);
        }
        batch.commit().expect("the engine takes it");
        for answer in done {
            answer.send(()).expect("the saver waits");
        }
    }
}

/// Number of bytes of a record beside its state.
fn around() -> usize {
    let state = stored::State {
        type_url: STATE_URL.into(),
        value: state(1, 1),
        ..stored::State::default()
    };
    let content = stored::Content { state: Some(state), ..stored::Content::default() };
    let head = stored::Head {
        version: 1_000,
        revision: 1_000,
        incarnation: 1,
        epoch: 1,
        at_us: time(1).0,
        content: Some(content),
        ..stored::Head::default()
    };
    1 + head.encoded_len() - STATE_BYTES
}

/// Builds a key like the store: each part after its length.
fn key(prefix: &[u8], actor: &ActorId, suffix: &[u8]) -> Vec<u8> {
    let parts = [&actor.system, &actor.name, &actor.parent];
    let len: usize = parts.iter().map(|part| 2 + part.len()).sum();
    let mut key = Vec::with_capacity(prefix.len() + len + suffix.len());
    key.extend_from_slice(prefix);
    for part in parts {
        key.extend_from_slice(&u16::try_from(part.len()).expect("a short name").to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key.extend_from_slice(suffix);
    key
}

fn state_in(record: Option<fjall::Slice>) -> Bytes {
    let record = record.expect("it was kept");
    Bytes::copy_from_slice(&record[record.len() - STATE_BYTES..])
}

impl Storage for BareFjall {
    async fn save(&self, change: Change) {
        let Change { actor, number, version, revision, append } = change;
        let state = state(number, version);
        let head = (key(b"h", &actor, b"").into(), self.record(&state));
        let revision =
            append.then(|| (key(b"", &actor, &revision.to_be_bytes()).into(), self.record(&state)));
        let (done, ended) = oneshot::channel();
        let jobs = self.jobs.as_ref().expect("it is open");
        jobs.send_async(Job { head, revision, done }).await.expect("the writer runs");
        ended.await.expect("it is written");
    }

    async fn load(&self, actor: &ActorId) -> Bytes {
        state_in(self.current.get(key(b"h", actor, b"")).expect("it is read"))
    }

    async fn load_revision(&self, actor: &ActorId, revision: u64) -> Bytes {
        let key = key(b"", actor, &revision.to_be_bytes());
        state_in(self.history.get(key).expect("it is read"))
    }
}
