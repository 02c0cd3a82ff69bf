//! Writer: one thread that does all writing. Jobs that wait together become one commit and one sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fjall::Guard;
use metrics::{Histogram, histogram};
use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::StoreError;
use tokio::time::Instant;

use super::committer::Committer;
use super::damage::ReadError;
use super::engine::{Background, Op, Space};
use super::keys::{self, EPOCH};
use super::mark::Mark;
use super::prunings::Pruning;
use super::queue::{Answer, Job, Work, Write};
use super::reader;
use super::reclaim::{Merged, Reclaim};
use super::shared::Shared;
use super::space::Purpose;
use crate::metrics::{STORE_COMMIT_BYTES, STORE_COMMIT_SAVES};

/// Longest age of the mark before it is synced.
const MARK_AGE: Duration = Duration::from_secs(1);
/// A commit that has this many changes or bytes takes no further jobs.
const COMMIT_EVENTS: usize = 4_096;
const COMMIT_BYTES: usize = 4 << 20;
/// History entries that one commit removes.
const PURGE_STEP: usize = 4_096;

pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: flume::Receiver<Job>,
    committer: Committer,
    reclaim: Reclaim,
    mark_due: Instant,
    /// For each failing actor: jobs below this number were queued without knowledge of the failure.
    behind: HashMap<Arc<ActorId>, (u64, StoreError), Seeded>,
    behind_until: u64,
    /// Key prefixes of histories that are still to be removed.
    purging: Vec<Vec<u8>>,
    /// The newest claimed epoch; saves of older owners are refused.
    epoch: u64,
    /// Whether that claim is in memory only, because the disk was full.
    is_claim_unwritten: bool,
    is_disk_full: bool,
    is_merging_stopped: bool,
    commit_saves: Histogram,
    commit_bytes: Histogram,
}

/// The content of one commit, and the senders of its results.
#[derive(Default)]
struct Group {
    ops: Vec<Op>,
    saves: Vec<(Vec<Write>, tokio::sync::oneshot::Sender<Answer>)>,
    applies: Vec<tokio::sync::oneshot::Sender<Result<(), StoreError>>>,
    events: usize,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        jobs: flume::Receiver<Job>,
        mark: Mark,
        purging: Vec<Vec<u8>>,
        epoch: u64,
    ) -> Self {
        Self {
            committer: Committer::new(shared.clone(), mark),
            reclaim: Reclaim::new(shared.clone()),
            shared,
            jobs,
            mark_due: Instant::now() + MARK_AGE,
            behind: HashMap::default(),
            behind_until: 0,
            purging,
            epoch,
            is_claim_unwritten: false,
            is_disk_full: false,
            is_merging_stopped: false,
            commit_saves: histogram!(STORE_COMMIT_SAVES),
            commit_bytes: histogram!(STORE_COMMIT_BYTES),
        }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut next = None;
        self.tend_space();
        if let Err(error) = self.purge() {
            tracing::warn!(%error, "history of deleted actors not removed yet");
        }
        loop {
            let job = match next.take() {
                Some(job) => Ok(job),
                None => {
                    self.jobs.recv_timeout(self.mark_due.saturating_duration_since(Instant::now()))
                }
            };
            match job {
                Ok(job) => next = self.take(job),
                Err(flume::RecvTimeoutError::Timeout) => {}
                Err(flume::RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= self.mark_due {
                self.sync_mark();
                self.tend_space();
                self.committer.recover();
            }
        }
        self.reclaim.end();
        self.committer.close();
    }

    /// Looks at the disk, and begins to win space back when it is full.
    fn tend_space(&mut self) {
        let Shared { dir, options, space, .. } = &*self.shared;
        let unflushed = self.committer.unflushed_bytes();
        self.is_disk_full = space.look(dir, options, unflushed, self.is_disk_full);
        let ended = self.reclaim.ended();
        let opened = if ended.is_some() {
            // The former tables go with opening. Whether the engine merges by itself is decided after that.
            self.committer.open(Background::Off)
        } else if self.reclaim.is_running() {
            return;
        } else if self.is_disk_full && self.reclaim.wants_to_begin() && !self.committer.is_copied()
        {
            // Opened again, it can leave out all that was removed before.
            self.committer.open(Background::Off).map(|()| self.reclaim.begin())
        } else {
            self.committer.allow_merging(self.is_disk_full).map(|is_stopped| {
                if is_stopped && !std::mem::replace(&mut self.is_merging_stopped, is_stopped) {
                    self.reclaim.is_due();
                }
                self.is_merging_stopped = is_stopped;
            })
        };
        match (opened, ended) {
            (Err(error), _) => tracing::warn!(%error, "engine not opened again on the full disk"),
            (Ok(()), Some(Merged::Done)) => tracing::info!("tables on the full disk are merged"),
            (Ok(()), _) => {}
        }
    }

    fn sync_mark(&mut self) {
        self.committer.sync_mark();
        self.mark_due = Instant::now() + MARK_AGE;
    }

    /// Runs a job together with the jobs that wait behind it; returns a job that was taken but must run
    /// alone.
    fn take(&mut self, first: Job) -> Option<Job> {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(job) = next.take() {
            let is_alone = !matches!(job.work, Work::Save(..) | Work::Apply(..) | Work::TakeOver(..))
                    // Beside others it would be refused with them.
                    || (self.shared.space.is_full() && job.work.only_removes());
            if is_alone && group.events > 0 {
                next = Some(job);
                break;
            }
            if job.number >= self.behind_until {
                self.behind.clear();
            }
            group.events += job.events;
            group.bytes += job.bytes;
            match job.work {
                Work::Save(writes, answer) => self.add(&mut group, job.number, writes, answer),
                Work::Apply(ops, answer) => {
                    group.ops.extend(ops);
                    group.applies.push(answer);
                }
                // The job is done even if its caller is gone.
                Work::Free(ops, answer) => {
                    let freed = self.purge().and_then(|()| self.commit(Purpose::Free, ops));
                    drop(answer.send(freed));
                }
                Work::Delete(actor, answer) => drop(answer.send(self.delete(&actor))),
                Work::Prune(pruning, keys, answer) => {
                    drop(answer.send(self.prune(&pruning, keys)));
                }
                Work::ClaimEpoch(floor, answer) => drop(answer.send(self.claim_epoch(floor))),
                Work::TakeOver(actor, epoch, answer) => {
                    drop(answer.send(self.take_over(&actor, epoch)));
                }
            }
            if is_alone || group.events >= COMMIT_EVENTS || group.bytes >= COMMIT_BYTES {
                break;
            }
            next = self.jobs.try_recv().ok();
        }
        let (events, bytes) = (group.events, group.bytes);
        self.finish(group);
        self.shared.queue.release(events, bytes);
        next
    }

    fn add(
        &self,
        group: &mut Group,
        number: u64,
        mut writes: Vec<Write>,
        answer: tokio::sync::oneshot::Sender<Answer>,
    ) {
        for write in &mut writes {
            if let Some((until, error)) = self.behind.get(&write.actor)
                && number < *until
            {
                write.ops = Err(error.clone());
            }
            if write.epoch < self.epoch {
                write.ops = Err(StoreError::Fenced(self.epoch));
            }
            if let Ok(ops) = &mut write.ops {
                group.ops.append(ops);
            }
        }
        group.saves.push((writes, answer));
    }

    /// Commits a group and sends all its results.
    fn finish(&mut self, group: Group) {
        let Group { ops, saves, applies, bytes, .. } = group;
        let count = saves.iter().map(|(writes, _)| writes.len()).sum::<usize>();
        let only_removes = ops.iter().all(Op::removes);
        let result = if ops.is_empty() {
            Ok(())
        } else if only_removes {
            self.purge().and_then(|()| self.commit(Purpose::Free, ops))
        } else {
            self.purge().and_then(|()| self.commit(Purpose::Keep, ops))
        };
        if only_removes && count + applies.len() > 0 && result.is_ok() {
            self.reclaim.is_due();
        }
        if count > 0 && result.is_ok() {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a commit has far fewer than 2^52 saves and bytes"
            )]
            let (saves, bytes) = (count as f64, bytes as f64);
            self.commit_saves.record(saves);
            self.commit_bytes.record(bytes);
        }
        for (writes, answer) in saves {
            self.answer(writes, answer, &result);
        }
        for answer in applies {
            drop(answer.send(result.clone()));
        }
    }

    fn answer(
        &mut self,
        mut writes: Vec<Write>,
        answer: tokio::sync::oneshot::Sender<Answer>,
        committed: &Result<(), StoreError>,
    ) {
        let mut failed = Vec::new();
        for Write { actor, ops, .. } in &mut writes {
            if let (Ok(_), Err(error)) = (&ops, committed) {
                *ops = Err(error.clone());
            }
            if let Err(error) = ops {
                failed.push((actor.clone(), error.clone()));
            }
        }
        let mut untaken = None;
        if !failed.is_empty() {
            let until;
            (until, untaken) = self.shared.queue.fail(&failed);
            self.behind_until = self.behind_until.max(until);
            self.behind.extend(failed.into_iter().map(|(actor, error)| (actor, (until, error))));
        }
        // A save counts even if its caller is gone.
        drop(answer.send(Answer { writes, _untaken: untaken }));
    }

    fn claim_epoch(&mut self, floor: u64) -> Result<u64, StoreError> {
        let epoch = self.epoch.max(floor) + 1;
        self.is_claim_unwritten = true;
        let before = std::mem::replace(&mut self.epoch, epoch);
        match self.commit(Purpose::Free, Vec::new()) {
            // Nobody else can write here: the claim goes into the first commit of this epoch.
            Ok(()) | Err(StoreError::Full(_)) => Ok(epoch),
            Err(error) => {
                self.epoch = before;
                self.is_claim_unwritten = false;
                Err(error)
            }
        }
    }

    /// Makes a commit, with the claim of this epoch if that is not written yet.
    fn commit(&mut self, purpose: Purpose, mut ops: Vec<Op>) -> Result<(), StoreError> {
        if self.is_claim_unwritten {
            let epoch = self.epoch.to_be_bytes().to_vec();
            ops.push(Op::put(Space::Current, EPOCH.to_vec(), epoch));
        }
        self.committer.commit(purpose, ops)?;
        self.is_claim_unwritten = false;
        Ok(())
    }

    /// Removes revisions of a history; returns whether it is still there.
    fn prune(&mut self, pruning: &Pruning, keys: Vec<Vec<u8>>) -> Result<bool, StoreError> {
        self.purge()?;
        if pruning.is_void() {
            return Ok(false);
        }
        let remove = |key| Op::remove(Space::History, key);
        self.commit(Purpose::Free, keys.into_iter().map(remove).collect())?;
        self.reclaim.is_due();
        Ok(true)
    }

    /// Makes the head one of this epoch. Saves of older owners are refused from the claim of the epoch on, so nothing
    /// of theirs can come later; rows need no change.
    fn take_over(&mut self, actor: &ActorId, epoch: u64) -> Result<(), StoreError> {
        if epoch < self.epoch {
            return Err(StoreError::Fenced(self.epoch));
        }
        self.purge()?;
        let key = keys::actor(keys::HEAD, actor)?;
        let moved = self.shared.read(|engine| Ok(reader::moved_head(engine, &key, epoch)?))?;
        match moved.map_err(StoreError::Fenced)? {
            Some(head) => {
                match self.commit(Purpose::Keep, vec![Op::put(Space::Current, key, head)]) {
                    // The head stays one of the former epoch, whose owner is refused: a full disk is read as before.
                    Err(StoreError::Full(_)) => Ok(()),
                    written => written,
                }
            }
            None => Ok(()),
        }
    }

    /// Removes the heads of every parent at once and the histories in steps. A note marks the removal until it is
    /// done, also across a crash.
    fn delete(&mut self, actor: &ActorId) -> Result<(), StoreError> {
        self.purge()?;
        let heads = keys::named(keys::HEAD, actor)?;
        let note = keys::named(keys::PURGE, actor)?;
        let histories = note.get(1..).unwrap_or_default().to_vec();
        let heads = self.shared.read(|engine| Ok(reader::heads(engine, &heads)?))?;
        let mut ops: Vec<_> =
            heads.into_iter().map(|head| Op::remove(Space::Current, head)).collect();
        ops.push(Op::put(Space::Current, note, Vec::new()));
        self.commit(Purpose::Free, ops)?;
        self.purging.push(histories);
        self.purge()
    }

    /// Completes all begun removals; before that, no other change may be written for those actors.
    fn purge(&mut self) -> Result<(), StoreError> {
        while let Some(history) = self.purging.last().cloned() {
            let keys = self.shared.read(|engine| {
                let entries = engine.history.prefix(&history).take(PURGE_STEP);
                let key =
                    |entry: Guard| Ok(entry.key().map_err(|error| engine.damage(&error))?.to_vec());
                entries.map(key).collect::<Result<Vec<_>, ReadError>>()
            })?;
            let is_last = keys.len() < PURGE_STEP;
            let remove = |key| Op::remove(Space::History, key);
            let mut ops: Vec<_> = keys.into_iter().map(remove).collect();
            if is_last {
                let mut note = vec![keys::PURGE];
                note.extend_from_slice(&history);
                ops.push(Op::remove(Space::Current, note));
            }
            self.commit(Purpose::Free, ops)?;
            self.reclaim.is_due();
            if is_last {
                self.purging.pop();
                self.shared.prunings.end(&history);
            }
        }
        Ok(())
    }
}
