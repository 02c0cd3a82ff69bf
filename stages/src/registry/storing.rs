//! Storing: many changes of the registry become one durable write.
//!
//! In batches of [`Change`], out their replies. A change is durable before its reply is sent and before any call sees it.
//! A batch is stored in *rounds*: a change that depends on an earlier one of its round waits for the next round. So the
//! outcome is the same as if the changes came one by one, and changes of one name keep their order. What a change of unknown
//! outcome named is [stored again](super::in_doubt) first.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tower::Service;
use tracing::{debug, warn};

use crate::actor::{ActorId, Definition, Kind};
use crate::error::Error;
use crate::placement::Mailboxes;
use crate::ports::{Registered, RegisteredEntry, Registry, RegistryChange, StoreError};
use crate::registry::capacity::{NewNames, RegistryBounds, check_host};
use crate::registry::change::{Asked, CHANGE_LIMIT, Change, ChangeQueue, Waiter};
use crate::registry::directory::Directory;
use crate::registry::entry::{Entry, Hosted, Source};
use crate::registry::hosts::OneHost;
use crate::registry::in_doubt::{InDoubt, behind, may_be_stored};
use crate::registry::kept_rows::KeptRows;
use crate::registry::plan::{self, Plan};
use crate::registry::round::{Round, Touches};
use crate::registry::warm_up::WarmUps;
use crate::settling::Settling;

/// How long the stage looks at the rows of one deleted actor.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Storing(pub(super) Arc<StoringInner>);

/// What the stage works with.
#[derive(Debug)]
pub(super) struct StoringInner {
    pub(super) directory: Arc<Directory>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) kept_rows: KeptRows,
    pub(super) mailboxes: Mailboxes,
    pub(super) warm_ups: WarmUps,
    pub(super) host_connections: usize,
    pub(super) bounds: RegistryBounds,
    pub(super) in_doubt: InDoubt,
    /// Takes what is in doubt, after a pause.
    pub(super) changes: ChangeQueue,
    pub(super) settling: Settling,
    /// Whether a host joins those that its definitions have.
    pub(super) join: bool,
}

impl Storing {
    /// Loads the entries that earlier starts have stored. Returns their number, and those with timers, which are to be
    /// [warmed up](Self::warm_up) when it is known who is paused: nobody may call them.
    pub(crate) async fn recall(&self) -> Result<(usize, Vec<Arc<Entry>>), Error> {
        let all = self.0.registry.load().await?;
        let count = all.len();
        let is_spawned = |one: &Registered| matches!(one.entry, RegisteredEntry::Spawned { .. });
        let (mut spawned, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_spawned);
        let mut timed = Vec::new();
        for one in others {
            let adopted = self.0.adopt(one);
            let has_timers = |entry: &Arc<Entry>| !entry.spec().hosted.definition.timers.is_empty();
            timed.extend(adopted.filter(has_timers));
        }
        // An instance may itself be a parent, so parents are added first, in any order of loading.
        while !spawned.is_empty() {
            let before = spawned.len();
            spawned.retain(|one| self.0.adopt(one.clone()).is_none());
            if spawned.len() == before {
                for orphan in &spawned {
                    warn!(actor = %orphan.id(), parent = orphan.id().parent, "its definition is not registered: left out");
                }
                break;
            }
        }
        self.0.note_overfull();
        Ok((count, timed))
    }

    /// Activates actors in the background, so that their timers start.
    pub(crate) fn warm_up(&self, timed: Vec<Arc<Entry>>) {
        for entry in timed {
            self.0.warm_ups.start(entry);
        }
    }
}

impl StoringInner {
    async fn change(&self, batch: Vec<Change>) {
        let with_touches = |change: Change| {
            let touches = change.asked.touches();
            (change, touches)
        };
        let mut left: Vec<_> = batch.into_iter().map(with_touches).collect();
        while !left.is_empty() {
            if let Err(error) = self.settle().await {
                self.settle_later();
                return refuse(left, &behind(error));
            }
            let mut round = Round::default();
            for (change, touches) in left {
                // What is planned does not wait for the look at rows.
                let looks = matches!(change.asked, Asked::GiveBack(_));
                if round.concerns(&touches) || (looks && !round.planned.is_empty()) {
                    round.touch(&touches);
                    round.later.push((change, touches));
                } else if let Some((plan, asker)) = self.plan(change, &mut round.new_names) {
                    round.touch(&touches);
                    // No change of this name comes between.
                    if let Some(asker) = self.without_rows(&plan, asker).await {
                        round.planned.push((plan, asker));
                    }
                }
            }
            self.store(round.planned).await;
            left = round.later;
        }
        if let Err(error) = self.settle().await {
            debug!(%error, "what is in memory of names in doubt is not stored yet");
            self.settle_later();
        }
    }

    /// Returns the caller again, unless a key would be given back of which rows are left: then the caller has the answer.
    async fn without_rows(&self, plan: &Plan, asker: Waiter) -> Option<Waiter> {
        let Some(key) = &plan.given_back else { return Some(asker) };
        // Short, because other changes wait.
        match timeout(LOOK_LIMIT, self.kept_rows.forget(key, false, true)).await {
            Ok(Ok(false)) => return Some(asker),
            Ok(Ok(true)) => asker.send(Ok(Vec::new())),
            Ok(Err(error)) => asker.send(Err(error.into())),
            Err(_) => {
                let reason = format!("it gave no answer within {LOOK_LIMIT:?}");
                asker.send(Err(StoreError::Unavailable(reason).into()));
            }
        }
        None
    }

    /// Has the names in doubt stored again after a pause, as one more change. When that fails, the stage calls this method once more.
    fn settle_later(&self) {
        let changes = self.changes.clone();
        self.settling.later(async move {
            // When the queue is full, other changes store what is in doubt; when it is closed, the proxy ends.
            drop(changes.put(Asked::Settle).await);
        });
    }

    /// Stores the names in doubt as they are in memory.
    async fn settle(&self) -> Result<(), Error> {
        let writes = self.in_doubt.as_in_memory(&self.directory);
        if !writes.is_empty() {
            self.apply(writes).await?;
            self.in_doubt.clear();
        }
        Ok(())
    }

    /// Plans a change. Replies at once if there is nothing to store.
    fn plan(&self, change: Change, new_names: &mut NewNames) -> Option<(Plan, Waiter)> {
        let Change { asked, timing, asker } = change;
        if !timing.start() {
            // Its caller already got the error that it did not begin.
            return None;
        }
        let planned = match asked {
            Asked::Register(registration) => check_host(&self.directory, &registration.host)
                .and_then(|()| {
                    let timers_are_on = self.warm_ups.timers_are_on();
                    plan::registration(&self.directory, registration, self.join, timers_are_on)
                }),
            Asked::Spawn(spawn) => plan::spawn(&self.directory, spawn),
            Asked::Forget { entry, keeps_key } => Ok(plan::forget(&entry, keeps_key)),
            Asked::Leave(leave) => plan::leave(&self.directory, &leave),
            Asked::Restored { entry, revision } => {
                Ok(plan::restored(&self.directory, &entry, revision))
            }
            Asked::GiveBack(key) => Ok(plan::give_back(&self.directory, &key)),
            Asked::Settle => Ok(Plan::default()),
        };
        let fits = |plan: Plan| {
            new_names.add(&plan, &self.directory, self.bounds)?;
            Ok(plan)
        };
        match planned.and_then(fits) {
            Ok(plan) if !plan.writes.is_empty() => return Some((plan, asker)),
            Ok(plan) => asker.send(Ok(self.finish(plan))),
            Err(error) => asker.send(Err(error)),
        }
        None
    }

    /// Stores what is planned in one write, makes it visible and replies.
    async fn store(&self, planned: Vec<(Plan, Waiter)>) {
        if planned.is_empty() {
            return;
        }
        let is_alone = planned.len() == 1;
        let writes = planned.iter().flat_map(|(plan, _)| plan.writes.iter().cloned());
        let stored = self.apply(writes.collect()).await;
        let is_too_large = matches!(stored, Err(Error::Store(StoreError::TooLarge(_))));
        for (plan, asker) in planned {
            let stored = if is_too_large && !is_alone {
                // Nothing was written; each plan alone may fit.
                self.apply(plan.writes.clone()).await
            } else {
                stored.clone()
            };
            if let Err(error) = &stored
                && may_be_stored(error)
            {
                warn!(%error, "a change of the registry may be stored: what is in memory is stored again");
                self.in_doubt.add(&plan.writes);
            }
            asker.send(stored.map(|()| self.finish(plan)));
        }
    }

    /// Logs that more actors are registered than the bounds allow. They are served; new ones are refused.
    fn note_overfull(&self) {
        let (registered, bounds) = (self.directory.registered(), self.bounds);
        if registered > bounds.all {
            let bound = bounds.all;
            warn!(registered, bound, "more actors are registered than may be: no new ones");
        }
        for (system, registered) in self.directory.systems_above(bounds.system) {
            let bound = bounds.system;
            warn!(
                system,
                registered,
                bound,
                "more actors are registered than may be in one system: no new ones"
            );
        }
    }

    async fn apply(&self, writes: Vec<RegistryChange>) -> Result<(), Error> {
        timeout(CHANGE_LIMIT, self.registry.apply(writes)).await.map_err(|_| {
            StoreError::Unknown(format!(
                "the registry took longer than {CHANGE_LIMIT:?}; it may have been changed"
            ))
        })??;
        Ok(())
    }

    /// Makes a stored plan visible. Returns its entries.
    fn finish(&self, plan: Plan) -> Vec<Arc<Entry>> {
        let Plan { writes, known, moved, warms_up, given_back: _ } = plan;
        let mut entries = Vec::with_capacity(writes.len() + known.len());
        let changes_pools = writes.iter().any(|write| self.changes_pool(write));
        for write in writes {
            match write {
                RegistryChange::Put(one) => entries.extend(self.adopt(one)),
                RegistryChange::Remove(id) => self.remove(&id),
            }
        }
        entries.extend(known);
        if changes_pools {
            self.fit_pools();
        }
        self.move_turns(&moved);
        for former in moved {
            if self.directory.forget_host_limit(&former) {
                // Without a limit it is forgotten when it is quiet.
                self.mailboxes.queue.set_class_limit(former.limit, usize::MAX);
            }
        }
        if warms_up {
            for entry in &entries {
                self.warm_ups.start(entry.clone());
            }
        }
        entries
    }

    /// Gives queued turns of hosts that actors do not have any more to others.
    fn move_turns(&self, moved: &[OneHost]) {
        if moved.is_empty() {
            return;
        }
        self.mailboxes.queue.take_where(|placed| {
            if moved.iter().any(|host| host.limit == placed.host_limit) {
                placed.keep_host();
            }
            false
        });
    }

    /// Whether a write gives a pool another size, or makes it an actor of another kind.
    fn changes_pool(&self, write: &RegistryChange) -> bool {
        let RegistryChange::Put(one) = write else { return false };
        let RegisteredEntry::Definition(definition) = &one.entry else { return false };
        self.changed_pool(definition).is_some()
    }

    /// The pool to which a definition gives another size, or that it makes an actor of another kind.
    fn changed_pool(&self, definition: &Definition) -> Option<Arc<Entry>> {
        let known = self.directory.find(&definition.id.system, &definition.id.name)?;
        let kind = known.with_hosted(|hosted| hosted.definition.kind);
        let changes = matches!(kind, Kind::Pooled { .. }) && kind != definition.kind;
        changes.then_some(known)
    }

    /// Dismisses the members that pools have no more, also of pools that were spawned from a changed definition.
    fn fit_pools(&self) {
        for pool in self.directory.pools.names() {
            if let Some(pool) = self.directory.find(pool.system(), pool.name()) {
                self.let_go(self.directory.pools.fit(&pool));
            } else {
                self.directory.pools.tidy(&pool);
            }
        }
    }

    fn let_go(&self, dismissed: Vec<Arc<Entry>>) {
        if !dismissed.is_empty() {
            self.directory.timers_changed.notify_one();
        }
        self.mailboxes.let_go(dismissed);
    }

    fn remove(&self, id: &ActorId) {
        self.directory.remove_kept_key(id);
        if let Some(entry) = self.directory.find(&id.system, &id.name) {
            self.let_go(self.directory.remove(&entry));
        }
    }

    /// Adds one registered entry to the directory. Returns `None` when its parent is missing, and of a deleted actor.
    fn adopt(&self, one: Registered) -> Option<Arc<Entry>> {
        let key = one.key;
        match one.entry {
            RegisteredEntry::Definition(definition) => {
                let ended = if matches!(definition.kind, Kind::Pooled { .. }) {
                    None
                } else {
                    self.changed_pool(&definition)
                };
                let hosted = self.hosted(definition);
                let id = Arc::new(hosted.definition.id.clone());
                if let Some(pool) = &ended {
                    // Before the change, because a turn of a member would keep a state that the new definition has.
                    self.let_go(self.directory.pools.end(pool, &hosted));
                }
                let entry = self.directory.put_with_key(key, id, Source::Defined(hosted));
                if ended.is_some() {
                    // Those of pools that were spawned from it, too.
                    self.fit_pools();
                }
                Some(entry)
            }
            RegisteredEntry::Spawned { id, revision } => {
                let parent = self.directory.find(&id.system, &id.parent)?;
                Some(self.directory.put_with_key(key, id, Source::Spawned { parent, revision }))
            }
            RegisteredEntry::Deleted(key) => {
                self.remove(&key);
                self.directory.keep_key(key);
                None
            }
        }
    }

    fn hosted(&self, definition: Arc<Definition>) -> Hosted {
        let (hosted, new) = self.directory.hosted(definition);
        for limit in new {
            self.mailboxes.queue.set_class_limit(limit, self.host_connections);
        }
        hosted
    }
}

/// Answers changes that did not begin.
fn refuse(changes: Vec<(Change, Touches)>, error: &Error) {
    for (Change { timing, asker, .. }, _) in changes {
        // The caller of one that cannot begin any more has its error.
        if timing.start() {
            asker.send(Err(error.clone()));
        }
    }
}

impl Service<Vec<Change>> for Storing {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Vec<Change>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            inner.change(batch).await;
            Ok(())
        })
    }
}
