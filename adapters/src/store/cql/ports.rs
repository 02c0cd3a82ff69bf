//! Ports: the store behind the ports of the stages.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::{Interval, Keep, Page};
use tidegate_stages::outbox::{OutboxKey, OutboxRow, Seen};
use tidegate_stages::ports::{
    Outcome, Registered, Registry, RegistryChange, Save, StateStore, StoreError, TakenOver,
};
use tidegate_stages::state::{Head, Revision, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::CqlStore;
use super::lines::{Answer, Line, Waiter, Work};
use super::rows::Key;
use super::shared::Shared;
use crate::store::notes::Notes;

/// The task ended without a result; this happens only when the process ends.
fn unknown() -> StoreError {
    StoreError::Unknown("the writer ended without an answer".into())
}

impl CqlStore {
    /// Queues work during the call, so that work runs in the order of calls; the future waits for the
    /// result.
    fn ask<T, F>(
        &self,
        line: Line,
        work: impl FnOnce(Arc<Shared>) -> F,
    ) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work = work(self.shared.clone());
        // Dropped when nobody waits for it.
        let work = async move { drop(answer.send(work.await)) }.boxed();
        match self.lines.put(&self.shared, line, Work::Other(work)) {
            Ok(()) => answered.map(|answer| answer.unwrap_or_else(|_| Err(unknown()))).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    pub(super) fn read<T, F>(
        &self,
        read: impl FnOnce(Arc<Shared>) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let shared = self.shared.clone();
        async move {
            shared.check_open()?;
            read(shared).await
        }
        .boxed()
    }

    /// As [`read`](Self::read), after all earlier requests for this actor.
    fn read_of<T, F>(
        &self,
        actor: &ActorId,
        read: impl FnOnce(Arc<Shared>, Arc<ActorId>) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let actor = Arc::new(actor.clone());
        let behind = self.lines.behind(&Line::Actor(actor.clone()));
        self.read(async move |shared: Arc<Shared>| {
            if let Some(behind) = behind {
                behind.await.map_err(|_| StoreError::Unavailable("it is closed".into()))?;
            }
            read(shared, actor).await
        })
    }
}

impl Notes for CqlStore {
    fn note(&self, name: &str) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        let name = note_name(name);
        self.read(async move |shared: Arc<Shared>| {
            let cql = &shared.database.cql;
            let found: Option<(Option<Bytes>,)> =
                shared.database.read_one(&cql.note, (name,)).await?;
            Ok(found.and_then(|(note,)| note))
        })
    }

    fn put_note(
        &self,
        name: &str,
        note: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let name = note_name(name);
        self.ask(Line::Registry, async move |shared: Arc<Shared>| {
            shared.fence.check_own()?;
            let (cql, stamp) = (&shared.database.cql, shared.stamp().await?);
            match note {
                Some(note) => shared.database.write(&cql.put_note, (name, note), stamp).await,
                None => shared.database.write(&cql.drop_note, (name,), stamp).await,
            }
        })
    }
}

/// Keeps notes apart from the rows of `meta` that the store itself needs.
fn note_name(name: &str) -> String {
    format!("note/{name}")
}

impl StateStore for CqlStore {
    fn save(&self, batch: Vec<Save>) -> BoxStream<'static, Outcome> {
        // Each line sends its outcomes in order, and all of them find a place.
        let (answers, answered) = mpsc::channel(batch.len().max(1));
        let mut refused = Vec::new();
        for (index, save) in batch.into_iter().enumerate() {
            let line = Line::Actor(save.actor.clone());
            let work = Work::Save(Ok(save), Waiter { index, answers: answers.clone() });
            if let Err(error) = self.lines.put(&self.shared, line, work) {
                refused.push((index, Err(error)));
            }
        }
        let answered = stream::unfold(answered, |mut answered| async move {
            let (index, answer): (usize, Answer) = answered.recv().await?;
            Some(((index, answer.result), answered))
        });
        answered.chain(stream::iter(refused)).boxed()
    }

    fn append(
        &self,
        actor: Arc<ActorId>,
        revisions: Vec<Revision>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(Line::Actor(actor.clone()), async move |shared: Arc<Shared>| {
            shared.append(&actor, revisions).await
        })
    }

    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        self.read_of(actor, async |shared, actor| shared.load(&actor).await)
    }

    fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        self.read_of(actor, async move |shared, actor| shared.load_revision(&actor, revision).await)
    }

    fn load_at(
        &self,
        actor: &ActorId,
        at: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        self.read_of(actor, async move |shared, actor| shared.load_at(&actor, at).await)
    }

    fn load_by_interval(
        &self,
        actor: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Revision>, StoreError>> {
        self.read_of(actor, async move |shared, actor| {
            shared.load_by_interval(&actor, interval, limit).await
        })
    }

    fn actors(
        &self,
        system: &str,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        let (system, after) = (system.to_owned(), after.cloned());
        self.read(async move |shared: Arc<Shared>| {
            shared.actors(&system, after.as_ref(), limit).await
        })
    }

    fn prune(&self, actor: &ActorId, keep: Keep) -> BoxFuture<'static, Result<u64, StoreError>> {
        let (store, actor) = (self.clone(), Arc::new(actor.clone()));
        async move {
            let mut dropped = 0;
            loop {
                let pruned = actor.clone();
                let step = store
                    .ask(Line::Actor(actor.clone()), async move |shared: Arc<Shared>| {
                        shared.prune(&pruned, keep).await
                    });
                let step = step.await?;
                dropped += step.dropped;
                if !step.goes_on {
                    return Ok(dropped);
                }
            }
        }
        .boxed()
    }

    fn outbox(
        &self,
        actor: &ActorId,
        after: Option<OutboxKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<OutboxRow>, StoreError>> {
        self.read_of(actor, async move |shared, actor| shared.outbox(&actor, after, limit).await)
    }

    fn seen(&self, actor: &ActorId) -> BoxFuture<'static, Result<Vec<Seen>, StoreError>> {
        self.read_of(actor, async |shared, actor| shared.seen(&Key::of(&actor)?).await)
    }

    fn pending(
        &self,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        let after = after.cloned();
        self.read(async move |shared: Arc<Shared>| shared.pending(after.as_ref(), limit).await)
    }

    fn take_over(
        &self,
        actor: Arc<ActorId>,
        epoch: u64,
    ) -> BoxFuture<'static, Result<TakenOver, StoreError>> {
        self.ask(Line::Actor(actor.clone()), async move |shared: Arc<Shared>| {
            shared.take_over(&actor, epoch).await
        })
    }

    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>> {
        let actor = Arc::new(actor.clone());
        self.ask(Line::Actor(actor.clone()), async move |shared: Arc<Shared>| {
            shared.delete(&actor).await
        })
    }

    fn claim_epoch_above(&self, floor: u64) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.ask(Line::Registry, async move |shared: Arc<Shared>| shared.claim(floor).await)
    }
}

impl Registry for CqlStore {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        self.read(async move |shared: Arc<Shared>| shared.registered().await)
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(Line::Registry, async move |shared: Arc<Shared>| shared.register(changes).await)
    }
}
