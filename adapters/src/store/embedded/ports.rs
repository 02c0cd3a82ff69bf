//! Ports: the embedded store behind the ports of the stages.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::{Interval, Keep, Page};
use tidegate_stages::outbox::{EffectRows, OutboxKey, OutboxRow, Seen};
use tidegate_stages::ports::{
    Outcome, Registered, RegisteredEntry, Registry, RegistryChange, Save, StateStore, StoreError,
    TakenOver,
};
use tidegate_stages::state::{Head, Revision, Timestamp};
use tokio::sync::oneshot;

use super::engine::{Op, Space};
use super::queue::{Work, Write};
use super::{EmbeddedStore, keys, prune, reader, unknown};
use crate::store::notes::Notes;
use crate::store::records;
use crate::store::vault::Vault;

fn write(save: Save, vault: &Vault) -> Write {
    let Save { actor, epoch, head, append, rows } = save;
    let mut ops = Vec::with_capacity(usize::from(head.is_some()) + usize::from(append));
    let put = || {
        if let Some(head) = head {
            put_head(&actor, head, append, vault, &mut ops)?;
        }
        rows.map_or(Ok(()), |rows| put_rows(&actor, *rows, vault, &mut ops))
    };
    let ops = put().map(|()| ops);
    Write { actor, epoch, ops }
}

fn put_head(
    actor: &ActorId,
    head: Head,
    append: bool,
    vault: &Vault,
    ops: &mut Vec<Op>,
) -> Result<(), StoreError> {
    let key = keys::actor(keys::HEAD, actor)?;
    let history = append.then(|| keys::history(actor)).transpose()?;
    let revision = head.revision;
    let (value, appended) = records::encode_head(keys::whose(&key), head, append, vault);
    ops.push(Op::put(Space::Current, key, value));
    if let Some((history, appended)) = history.zip(appended) {
        ops.push(Op::put(Space::History, keys::revision(history, revision), appended));
    }
    Ok(())
}

fn put_rows(
    actor: &ActorId,
    mut rows: EffectRows,
    vault: &Vault,
    ops: &mut Vec<Op>,
) -> Result<(), StoreError> {
    rows.reduce();
    let EffectRows { appends, acknowledged, seen, forgotten } = rows;
    let outbox = keys::outbox(actor)?;
    ops.extend(appends.into_iter().map(|row| {
        let key = keys::row(outbox.clone(), row.key);
        Op::put(Space::Current, key, records::encode_row(keys::whose(&outbox), row, vault))
    }));
    let remove = |key| Op::remove(Space::Current, keys::row(outbox.clone(), key));
    ops.extend(acknowledged.into_iter().map(remove));
    let prefix = keys::seen(actor)?;
    for Seen { source, id } in seen {
        let key = keys::source(prefix.clone(), &source)?;
        ops.push(Op::put(Space::Current, key, records::encode_effect_id(id)));
    }
    for source in forgotten {
        ops.push(Op::remove(Space::Current, keys::source(prefix.clone(), &source)?));
    }
    Ok(())
}

impl StateStore for EmbeddedStore {
    fn save(&self, batch: Vec<Save>) -> BoxStream<'static, Outcome> {
        if batch.is_empty() {
            return stream::empty().boxed();
        }
        let all = |error: StoreError, count| {
            stream::iter((0..count).map(move |index| (index, Err(error.clone())))).boxed()
        };
        let count = batch.len();
        let (answer, answered) = oneshot::channel();
        let vault = &self.shared.options.vault;
        let work = Work::Save(batch.into_iter().map(|save| write(save, vault)).collect(), answer);
        if let Err(error) = self.shared.queue.put(work) {
            return all(error, count);
        }
        // One commit decides all of them.
        let outcomes = answered.map(move |answer| match answer {
            Ok(answer) => stream::iter(answer.results().into_iter().enumerate()).boxed(),
            Err(_) => all(unknown(), count),
        });
        outcomes.flatten_stream().boxed()
    }

    fn append(
        &self,
        actor: Arc<ActorId>,
        revisions: Vec<Revision>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        if revisions.is_empty() {
            return ready(Ok(())).boxed();
        }
        self.ask(|answer| {
            let (history, vault) = (keys::history(&actor)?, &self.shared.options.vault);
            let op = |entry: Revision| {
                let key = keys::revision(history.clone(), entry.revision);
                Op::put(Space::History, key, records::encode_revision(&history, entry, vault))
            };
            Ok(Work::Apply(revisions.into_iter().map(op).collect(), answer))
        })
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
            Ok(history) => self.read(move |engine| reader::revision(engine, &history, revision)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn load_at(
        &self,
        actor: &ActorId,
        at: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        match keys::history(actor) {
            Ok(history) => self.read(move |engine| reader::newest_at(engine, &history, at)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn load_by_interval(
        &self,
        actor: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Revision>, StoreError>> {
        match keys::history(actor) {
            Ok(history) => {
                self.read(move |engine| reader::interval(engine, &history, &interval, limit))
            }
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn actors(
        &self,
        system: &str,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        let after = after.map(|after| keys::actor(keys::HEAD, after)).transpose();
        match keys::system(keys::HEAD, system).and_then(|system| Ok((system, after?))) {
            Ok((system, after)) => {
                self.read(move |engine| Ok(reader::actors(engine, &system, after, limit)?))
            }
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn prune(&self, actor: &ActorId, keep: Keep) -> BoxFuture<'static, Result<u64, StoreError>> {
        match keys::history(actor) {
            Ok(history) => {
                prune::prune(self.shared.clone(), self.reads.clone(), history, keep).boxed()
            }
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn outbox(
        &self,
        actor: &ActorId,
        after: Option<OutboxKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<OutboxRow>, StoreError>> {
        match keys::outbox(actor) {
            Ok(outbox) => self.read(move |engine| reader::outbox(engine, &outbox, after, limit)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn seen(&self, actor: &ActorId) -> BoxFuture<'static, Result<Vec<Seen>, StoreError>> {
        match keys::seen(actor) {
            Ok(seen) => self.read(move |engine| Ok(reader::seen(engine, &seen)?)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn pending(
        &self,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        match after.map(keys::outbox).transpose() {
            Ok(after) => self.read(move |engine| reader::pending(engine, after, limit)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn take_over(
        &self,
        actor: Arc<ActorId>,
        epoch: u64,
    ) -> BoxFuture<'static, Result<TakenOver, StoreError>> {
        let keys = keys::actor(keys::HEAD, &actor).and_then(|head| Ok((head, keys::seen(&actor)?)));
        let (head, seen) = match keys {
            Ok(keys) => keys,
            Err(error) => return ready(Err(error)).boxed(),
        };
        let taken = self.ask(|answer| Ok(Work::TakeOver(actor, epoch, answer)));
        let found = self.read(move |engine| {
            Ok(TakenOver { head: reader::head(engine, &head)?, seen: reader::seen(engine, &seen)? })
        });
        async move {
            taken.await?;
            found.await
        }
        .boxed()
    }

    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(|answer| {
            keys::actor(keys::HEAD, actor)?;
            Ok(Work::Delete(Arc::new(actor.clone()), answer))
        })
    }

    fn keeps_former_owners_out(&self) -> bool {
        true
    }

    fn claim_epoch_above(&self, floor: u64) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.ask(|answer| Ok(Work::ClaimEpoch(floor, answer)))
    }
}

impl Registry for EmbeddedStore {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        let decode = self.decode;
        self.read(move |engine| Ok(reader::registered(engine, decode)?))
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let op = |change| {
            Ok(match &change {
                RegistryChange::Put(entry) => {
                    let (key, value) =
                        (keys::registered(entry.id())?, records::encode_registered(entry));
                    Op::put(Space::Current, key, value)
                }
                RegistryChange::Remove(id) => Op::remove(Space::Current, keys::registered(id)?),
            })
        };
        self.ask(|answer| {
            let frees = !changes.is_empty() && changes.iter().all(frees);
            let ops = changes.into_iter().map(op).collect::<Result<_, StoreError>>()?;
            Ok(if frees { Work::Free(ops, answer) } else { Work::Apply(ops, answer) })
        })
    }
}

/// Whether the change is part of a delete.
fn frees(change: &RegistryChange) -> bool {
    match change {
        RegistryChange::Remove(_) => true,
        RegistryChange::Put(entry) => matches!(entry.entry, RegisteredEntry::Deleted(_)),
    }
}

impl Notes for EmbeddedStore {
    fn note(&self, name: &str) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        let key = keys::note(name);
        self.read(move |engine| Ok(reader::note(engine, &key)?))
    }

    fn put_note(
        &self,
        name: &str,
        value: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let value = value.map(|value| value.to_vec());
        let op = Op {
            space: Space::Current,
            key: keys::note(name).into(),
            value: value.map(Into::into),
        };
        self.ask(|answer| Ok(Work::Free(vec![op], answer)))
    }
}
