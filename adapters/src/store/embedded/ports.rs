//! Ports: the embedded store as what the stages ask for.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use tidegate_stages::state::{Head, Revision, Timestamp};
use tokio::sync::oneshot;

use super::engine::{Op, Space};
use super::queue::{Work, Write};
use super::{EmbeddedStore, keys, reader, unknown};
use crate::store::records;

fn write(save: Save) -> Write {
    let Save { actor, head, append } = save;
    let ops = keys::actor(keys::HEAD, &actor).and_then(|key| {
        let history = append.then(|| keys::history(&actor)).transpose()?;
        let revision = head.revision;
        let (value, appended) = records::encode_head(head, append);
        let mut ops = Vec::with_capacity(2);
        ops.push(Op { space: Space::Current, key, value: Some(value) });
        if let Some(history) = history {
            let key = keys::revision(history, revision);
            ops.push(Op { space: Space::History, key, value: appended });
        }
        Ok(ops)
    });
    Write { actor, ops }
}

impl StateStore for EmbeddedStore {
    fn save(&self, batch: Vec<Save>) -> BoxFuture<'static, Vec<Result<(), StoreError>>> {
        if batch.is_empty() {
            return ready(Vec::new()).boxed();
        }
        let count = batch.len();
        let (answer, answered) = oneshot::channel();
        let work = Work::Save(batch.into_iter().map(write).collect(), answer);
        if let Err(error) = self.shared.queue.put(work) {
            return ready(vec![Err(error); count]).boxed();
        }
        async move {
            match answered.await {
                Ok(answer) => answer.results,
                Err(_) => vec![Err(unknown()); count],
            }
        }
        .boxed()
    }

    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        match keys::actor(keys::HEAD, actor) {
            Ok(key) => self.read(move |engine| reader::head(engine, &key)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        match keys::history(actor) {
            Ok(history) => self.read(move |engine| reader::revision(engine, history, revision)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn load_by_interval(
        &self,
        actor: &ActorId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Revision>, StoreError>> {
        match keys::history(actor) {
            Ok(history) => {
                self.read(move |engine| reader::interval(engine, &history, from, to, limit))
            }
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(|answer| {
            keys::actor(keys::HEAD, actor)?;
            Ok(Work::Delete(Arc::new(actor.clone()), answer))
        })
    }

    fn claim_epoch(&self) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.ask(|answer| Ok(Work::ClaimEpoch(answer)))
    }
}

impl Registry for EmbeddedStore {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        let decode = self.decode;
        self.read(move |engine| reader::registered(engine, decode))
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let op = |change| {
            let (id, value) = match &change {
                RegistryChange::Put(entry) => (entry.id(), Some(records::encode_registered(entry))),
                RegistryChange::Remove(id) => (id.as_ref(), None),
            };
            Ok(Op { space: Space::Current, key: keys::registered(id)?, value })
        };
        self.ask(|answer| {
            let ops = changes.into_iter().map(op).collect::<Result<_, StoreError>>()?;
            Ok(Work::Apply(ops, answer))
        })
    }
}
