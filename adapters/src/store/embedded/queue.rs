//! Queue: the work that waits for the writer, bounded in changes and bytes.
//!
//! A full queue refuses at once and nothing is written: the callers are bounded themselves, and waiting
//! here would lose the order of calls. A save that builds on a failed save must not be applied. So an actor
//! is *failing* from the moment its save fails until the caller has taken or dropped that result. All saves
//! requested for the actor in this time fail with the same error.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::StoreError;
use tokio::sync::oneshot;

use super::engine::Op;
use super::prunings::Pruning;

/// One save, ready to be written; `Err` when the save must fail or has failed.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) actor: Arc<ActorId>,
    /// Epoch of the owner that saves.
    pub(super) epoch: u64,
    /// Empty after the writer has taken the changes.
    pub(super) ops: Result<Vec<Op>, StoreError>,
}

/// The result of a batch of saves; while it exists, actors whose save failed count as failing.
#[derive(Debug)]
pub(super) struct Answer {
    /// The batch itself. The caller builds and drops it, to spare the writer both.
    pub(super) writes: Vec<Write>,
    pub(super) _untaken: Option<Untaken>,
}

impl Answer {
    /// Returns the result of each save.
    pub(super) fn results(self) -> Vec<Result<(), StoreError>> {
        self.writes.into_iter().map(|write| write.ops.map(drop)).collect()
    }
}

/// A request to the writer, with the sender for its result.
#[derive(Debug)]
pub(super) enum Work {
    Save(Vec<Write>, oneshot::Sender<Answer>),
    Apply(Vec<Op>, oneshot::Sender<Result<(), StoreError>>),
    /// Small changes that go with freeing space.
    Free(Vec<Op>, oneshot::Sender<Result<(), StoreError>>),
    Delete(Arc<ActorId>, oneshot::Sender<Result<(), StoreError>>),
    /// One step of a pruning: removes these keys of its history. Returns whether it goes on.
    Prune(Arc<Pruning>, Vec<Vec<u8>>, oneshot::Sender<Result<bool, StoreError>>),
    /// Claims an epoch above this one.
    ClaimEpoch(u64, oneshot::Sender<Result<u64, StoreError>>),
    /// Writes an actor's head under an epoch.
    TakeOver(Arc<ActorId>, u64, oneshot::Sender<Result<(), StoreError>>),
}

impl Work {
    /// Whether it only removes: answered effects, due work that is done.
    pub(super) fn only_removes(&self) -> bool {
        match self {
            Self::Save(writes, _) => {
                let mut ops = writes.iter().flat_map(|write| write.ops.iter().flatten());
                ops.all(Op::removes)
            }
            Self::Apply(ops, _) => ops.iter().all(Op::removes),
            _ => false,
        }
    }
}

/// One entry of the queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) events: usize,
    pub(super) bytes: usize,
    pub(super) work: Work,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    jobs: Option<flume::Sender<Job>>,
    next_number: u64,
    events: usize,
    bytes: usize,
    failing: HashMap<Arc<ActorId>, (usize, StoreError), Seeded>,
}

#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
}

impl Queue {
    /// Creates an empty queue; the receiver is for the writer.
    pub(super) fn new(bounds: Bounds) -> (Arc<Self>, flume::Receiver<Job>) {
        let (sender, receiver) = flume::bounded(bounds.events.max(1));
        let waiting = Waiting {
            jobs: Some(sender),
            next_number: 0,
            events: 0,
            bytes: 0,
            failing: HashMap::default(),
        };
        (Arc::new(Self { bounds, waiting: Mutex::new(waiting) }), receiver)
    }

    /// Queues work. Work larger than the bounds is accepted when nothing else waits.
    ///
    /// # Errors
    /// When the queue is full or closed: nothing is written.
    pub(super) fn put(&self, mut work: Work) -> Result<(), StoreError> {
        let (events, bytes) = size(&work);
        let mut waiting = self.waiting.lock();
        let Bounds { events: max_events, bytes: max_bytes } = self.bounds;
        let is_full = waiting.events + events > max_events || waiting.bytes + bytes > max_bytes;
        if is_full && waiting.events > 0 {
            let text =
                format!("{max_events} changes or {max_bytes} bytes wait to be written already");
            return Err(StoreError::Unavailable(text));
        }
        if let Work::Save(writes, _) = &mut work
            && !waiting.failing.is_empty()
        {
            for write in writes {
                if let Some((_, error)) = waiting.failing.get(&write.actor) {
                    write.ops = Err(error.clone());
                }
            }
        }
        let number = waiting.next_number;
        let Some(jobs) = &waiting.jobs else { return Err(closed()) };
        // Never full, because each job has at least one event. Disconnected: the writer has ended.
        jobs.try_send(Job { number, events, bytes, work }).map_err(|_| closed())?;
        waiting.next_number += 1;
        waiting.events += events;
        waiting.bytes += bytes;
        Ok(())
    }

    /// Frees the capacity of finished jobs.
    pub(super) fn release(&self, events: usize, bytes: usize) {
        let mut waiting = self.waiting.lock();
        waiting.events -= events;
        waiting.bytes -= bytes;
    }

    /// Marks these actors as failing; returns the number of the next job to be queued, and a guard.
    ///
    /// The guard travels with the result. Its drop shows that the caller knows of the failure.
    pub(super) fn fail(
        self: &Arc<Self>,
        failed: &[(Arc<ActorId>, StoreError)],
    ) -> (u64, Option<Untaken>) {
        let mut waiting = self.waiting.lock();
        for (actor, error) in failed {
            let entry = waiting.failing.entry(actor.clone()).or_insert_with(|| (0, error.clone()));
            entry.0 += 1;
        }
        let untaken = (!failed.is_empty()).then(|| Untaken {
            queue: self.clone(),
            actors: failed.iter().map(|(actor, _)| actor.clone()).collect(),
        });
        (waiting.next_number, untaken)
    }

    /// Whether work is taken, as an error if it is not.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.waiting.lock().jobs.is_none() { Err(closed()) } else { Ok(()) }
    }

    /// Closes the queue to new work; the writer ends after the queued work is done.
    pub(super) fn close(&self) {
        self.waiting.lock().jobs = None;
    }
}

fn size(work: &Work) -> (usize, usize) {
    match work {
        Work::Save(writes, _) => {
            let ops = writes.iter().flat_map(|write| write.ops.iter().flatten());
            (writes.len().max(1), ops.map(Op::len).sum())
        }
        Work::Apply(ops, _) | Work::Free(ops, _) => {
            (ops.len().max(1), ops.iter().map(Op::len).sum())
        }
        Work::Prune(_, keys, ..) => (1, keys.iter().map(Vec::len).sum()),
        Work::Delete(..) | Work::ClaimEpoch(..) | Work::TakeOver(..) => (1, 0),
    }
}

/// Returns the error of a closed store.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

/// Failures that no caller has taken yet.
#[derive(Debug)]
pub(super) struct Untaken {
    queue: Arc<Queue>,
    actors: Vec<Arc<ActorId>>,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.lock();
        for actor in &self.actors {
            if let Some(entry) = waiting.failing.get_mut(actor) {
                entry.0 -= 1;
                if entry.0 == 0 {
                    waiting.failing.remove(actor);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(name: &str, bytes: usize) -> (Work, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let actor = Arc::new(ActorId { name: name.into(), ..ActorId::default() });
        let op = Op::remove(super::super::engine::Space::Current, vec![0; bytes]);
        (Work::Save(vec![Write { actor, epoch: 0, ops: Ok(vec![op]) }], answer), answered)
    }

    #[test]
    fn what_is_beyond_the_bounds_is_refused_and_a_giant_passes_alone() {
        let (queue, jobs) = Queue::new(Bounds { events: 2, bytes: 10 });
        queue.put(save("giant", 100).0).unwrap();
        assert!(matches!(queue.put(save("a", 1).0), Err(StoreError::Unavailable(_))));
        let giant = jobs.try_recv().unwrap();
        queue.release(giant.events, giant.bytes);
        queue.put(save("a", 5).0).unwrap();
        queue.put(save("b", 5).0).unwrap();
        assert!(matches!(queue.put(save("c", 0).0), Err(StoreError::Unavailable(_))));
        queue.close();
        assert!(matches!(queue.put(save("d", 0).0), Err(StoreError::Unavailable(_))));
    }

    #[test]
    fn a_save_fails_while_an_earlier_failure_of_its_actor_is_not_known() {
        let (queue, jobs) = Queue::new(Bounds { events: 9, bytes: 100 });
        let (Work::Save(mut writes, _), _) = save("a", 1) else { unreachable!() };
        let actor = writes.remove(0).actor;
        let (_, untaken) = queue.fail(&[(actor, StoreError::Full("no space".into()))]);
        queue.put(save("a", 1).0).unwrap();
        queue.put(save("b", 1).0).unwrap();
        drop(untaken);
        queue.put(save("a", 1).0).unwrap();
        let are_writable = jobs.drain().map(|job| match job.work {
            Work::Save(writes, _) => writes[0].ops.is_ok(),
            _ => unreachable!(),
        });
        assert_eq!(are_writable.collect::<Vec<_>>(), [false, true, true]);
    }
}
