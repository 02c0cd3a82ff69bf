//! Registration: the handle through which hosts and callers change who is registered, and find an actor.
//!
//! Changes wait in a bounded queue, and [`Storing`] stores those that come together in one write. A known, equal entry is
//! not written again, so a call that names its definition each time costs no write.

use std::sync::Arc;

use tidegate_pipeline::Drain;

use crate::actor::ActorId;
use crate::actor_timers::ActorTimers;
use crate::error::Error;
use crate::invocation::{Invocation, Registration, Spawn};
use crate::placement::Mailboxes;
use crate::ports::Registry;
use crate::registry::capacity::RegistryBounds;
use crate::registry::change::{Asked, ChangeQueue};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::registry::hosts::Leave;
use crate::registry::in_doubt::InDoubt;
use crate::registry::kept_rows::KeptRows;
use crate::registry::plan::spawned;
use crate::registry::pools::MemberLoad;
use crate::registry::storing::{Storing, StoringInner};
use crate::registry::warm_up::WarmUps;
use crate::settling::Settling;

/// The handle; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Registrar {
    directory: Arc<Directory>,
    mailboxes: Mailboxes,
    /// Changes that wait to be stored.
    pub(crate) changes: ChangeQueue,
}

impl Registrar {
    /// Makes the handle, and the stage that stores its changes, of which so many bytes may wait. With `join` a host
    /// joins those that its definitions have.
    pub(crate) fn new(
        directory: Arc<Directory>,
        (registry, kept_rows): (Arc<dyn Registry>, KeptRows),
        (mailboxes, timers): (Mailboxes, ActorTimers),
        tasks: Drain,
        host_connections: usize,
        (bounds, join): (RegistryBounds, bool),
        changes_bytes: usize,
    ) -> (Self, Storing) {
        let changes = ChangeQueue::new(changes_bytes);
        let pauses = directory.pauses.clone();
        let settling = Settling::new(mailboxes.clone(), tasks.clone());
        let inner = StoringInner {
            directory: directory.clone(),
            registry,
            kept_rows,
            warm_ups: WarmUps::new(mailboxes.clone(), timers, pauses, tasks),
            mailboxes: mailboxes.clone(),
            host_connections,
            bounds,
            in_doubt: InDoubt::default(),
            changes: changes.clone(),
            settling,
            join,
        };
        (Self { directory, mailboxes, changes }, Storing(Arc::new(inner)))
    }

    /// Stores a host's definitions durably, then warms eligible actors up in the background.
    pub(crate) async fn register(&self, registration: Registration) -> Result<(), Error> {
        self.changes.put(Asked::Register(registration)).await.map(drop)
    }

    /// Removes a host, durably, from the definitions that have others. What was queued for it goes to these.
    pub(crate) async fn leave(&self, leave: Leave) -> Result<(), Error> {
        self.changes.put(Asked::Leave(leave)).await.map(drop)
    }

    /// Stores spawned identities durably; activates nothing. Returns their entries.
    pub(crate) async fn spawn(&self, spawn: Spawn) -> Result<Vec<Arc<Entry>>, Error> {
        self.changes.put(Asked::Spawn(spawn)).await
    }

    /// Finds the entry of a call's actor. When the call asks to spawn the actor first: finds the entry that it is spawned from,
    /// and returns the identity to [spawn](Self::spawn_one).
    pub(crate) fn find(
        &self,
        invocation: &Invocation,
    ) -> Result<(Arc<Entry>, Option<ActorId>), Error> {
        let id = &invocation.actor;
        let find = |name: &str| {
            let unknown = || Error::ActorNotFound { system: id.system.clone(), name: name.into() };
            self.directory.find(&id.system, name).ok_or_else(unknown)
        };
        if invocation.register_ref.is_empty() {
            return Ok((find(&id.name)?, None));
        }
        let mut parent = &invocation.register_ref;
        // The Go SDK puts the actor's own name there and the definition's into the parent.
        let mistaken = *parent == id.name || find(parent).is_err();
        if mistaken && !id.parent.is_empty() {
            parent = &id.parent;
        }
        let to_spawn = ActorId { parent: parent.clone(), ..id.clone() };
        if spawned(&self.directory, to_spawn.clone(), None)?.is_none()
            && let Ok(known) = find(&id.name)
        {
            return Ok((known, None));
        }
        Ok((find(parent)?, Some(to_spawn)))
    }

    /// The member of a pool for its next call; `None` when the actor is no pool.
    pub(crate) fn member(&self, pool: &Arc<Entry>) -> Option<(Arc<Entry>, MemberLoad)> {
        self.directory.pools.member(pool)
    }

    /// Does something while an actor is certainly paused.
    pub(crate) fn while_paused(&self, entry: &Entry, then: impl FnOnce()) {
        self.directory.pauses.while_paused(&entry.actor, then);
    }

    /// Ends the timers of an actor that is deleted; its next activation starts them anew. The members that it has as a pool
    /// leave, with their timers.
    pub(crate) fn end_timers(&self, entry: &Entry) {
        entry.end_ticks();
        self.mailboxes.let_go(self.directory.pools.remove(entry));
        if !entry.spec().hosted.definition.timers.is_empty() {
            self.directory.timers_changed.notify_one();
        }
    }

    /// Forgets an entry that has left memory if it is a dismissed member of a pool, and nothing waits for it any more.
    pub(crate) fn tidy(&self, entry: &Entry) {
        if entry.is_dismissed() {
            self.directory.pools.tidy(&entry.actor);
        }
    }

    /// Stores that the revision which an actor's spawn asked for was loaded.
    pub(crate) async fn restored(&self, entry: &Arc<Entry>, revision: u64) -> Result<(), Error> {
        self.changes.put(Asked::Restored { entry: entry.clone(), revision }).await.map(drop)
    }

    /// Spawns one actor, unless it is registered, and returns its entry. A delete may remove it at once: its calls then
    /// [spawn it again](Self::spawn_again).
    pub(crate) async fn spawn_one(&self, id: ActorId) -> Result<Arc<Entry>, Error> {
        let spawned = self.spawn(Spawn { actors: vec![id], revision: None }).await?.pop();
        spawned.ok_or_else(|| Error::Internal("a spawned actor is not registered".into()))
    }

    /// Spawns a deleted actor again with the same identity, unless another call has. Returns the new entry.
    pub(crate) async fn spawn_again(&self, removed: &Entry) -> Result<Arc<Entry>, Error> {
        self.spawn_one(ActorId::clone(&removed.id())).await
    }

    /// Removes a spawned identity; with `keeps_key` its key stays, for when it is spawned again. A host's own definition
    /// stays, and so does an actor that others were spawned from.
    pub(crate) async fn forget(&self, entry: &Arc<Entry>, keeps_key: bool) -> Result<(), Error> {
        self.changes.put(Asked::Forget { entry: entry.clone(), keeps_key }).await.map(drop)
    }
}
