//! Registration: stores registered definitions and spawned actors across a restart.
//!
//! A change is durable before its reply is sent and before any call sees the change. A known, equal entry is not written again,
//! so a call that names its definition each time costs no write.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_pipeline::Drain;
use tidegate_pipeline::randomness::Seeded;
use tokio::sync::{Mutex, MutexGuard, Semaphore, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::actor::{ActorId, Definition, Kind, check_name};
use crate::call::Task;
use crate::error::Error;
use crate::invocation::{Invocation, Registration, Spawn};
use crate::placement::Mailboxes;
use crate::ports::{Registered, Registry, RegistryChange};
use crate::registry::directory::Directory;
use crate::registry::entry::{Entry, Hosted, Source};
use crate::reply::{Reply, Timing};

/// Actors that are warmed up concurrently.
const WARM_UPS: usize = 16;

/// How long a change to the registry may take.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Registrar {
    directory: Arc<Directory>,
    registry: Arc<dyn Registry>,
    mailboxes: Mailboxes,
    tasks: Drain,
    warm_ups: Arc<Semaphore>,
    host_connections: usize,
    /// Serialises changes, so that memory and registry agree.
    changing: Arc<Mutex<()>>,
}

impl Registrar {
    pub(crate) fn new(
        directory: Arc<Directory>,
        registry: Arc<dyn Registry>,
        mailboxes: Mailboxes,
        tasks: Drain,
        host_connections: usize,
    ) -> Self {
        Self {
            directory,
            registry,
            mailboxes,
            tasks,
            warm_ups: Arc::new(Semaphore::new(WARM_UPS)),
            host_connections,
            changing: Arc::default(),
        }
    }

    /// Loads the entries that earlier starts have stored. Returns their number.
    pub(crate) async fn recall(&self) -> Result<usize, Error> {
        let all = self.registry.load().await?;
        let count = all.len();
        let (definitions, mut spawned): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| matches!(one, Registered::Definition(_)));
        for one in definitions {
            self.adopt(one);
        }
        // An instance may itself be a parent, so parents are added first, in any order of loading.
        while !spawned.is_empty() {
            let before = spawned.len();
            spawned.retain(|one| self.adopt(one.clone()).is_none());
            if spawned.len() == before {
                for orphan in &spawned {
                    warn!(actor = %orphan.id(), parent = orphan.id().parent, "its definition is not registered: left out");
                }
                break;
            }
        }
        Ok(count)
    }

    /// Adds one registered entry to the directory. Returns `None` when its parent is missing.
    fn adopt(&self, one: Registered) -> Option<Arc<Entry>> {
        match one {
            Registered::Definition(definition) => {
                let hosted = self.hosted(definition);
                let id = Arc::new(hosted.definition.id.clone());
                Some(self.directory.put(id, Source::Defined(hosted)))
            }
            Registered::Spawned { id, revision } => {
                let parent = self.directory.find(&id.system, &id.parent)?;
                Some(self.directory.put(id, Source::Spawned { parent, revision }))
            }
        }
    }

    fn hosted(&self, definition: Arc<Definition>) -> Hosted {
        let (hosted, new) = self.directory.hosted(definition);
        if new {
            self.mailboxes.queue.set_class_limit(hosted.host_limit, self.host_connections);
        }
        hosted
    }

    /// Stores a host's definitions durably, then warms eligible actors up in the background.
    pub(crate) async fn register(&self, registration: Registration) -> Result<(), Error> {
        let stage = self.clone();
        self.whole(async move { stage.register_now(registration).await }).await
    }

    /// Stores spawned identities durably; activates nothing. Returns their entries.
    pub(crate) async fn spawn(&self, spawn: Spawn) -> Result<Vec<Arc<Entry>>, Error> {
        let stage = self.clone();
        self.whole(async move { stage.spawn_now(spawn).await }).await
    }

    /// Runs a change in its own task, so that memory and registry agree even when the client disconnects.
    async fn whole<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, outcome) = oneshot::channel();
        self.tasks.spawn(async move { drop(done.send(change.await)) });
        let lost = "the change was dropped on its way; it may have been stored";
        outcome.await.unwrap_or_else(|_| Err(Error::Internal(lost.into())))
    }

    async fn register_now(&self, registration: Registration) -> Result<(), Error> {
        for definition in &registration.definitions {
            check_definition(definition)?;
            note_unbuilt(definition);
        }
        let _changing = self.turn().await?;
        let mut changes = Vec::new();
        let mut known = Vec::new();
        let mut moved = Vec::new();
        let retired = self.retired(&registration);
        for definition in registration.definitions {
            let definition = Arc::new(definition);
            let id = &definition.id;
            if let Some(entry) = self.directory.find(&id.system, &id.name) {
                match entry.source() {
                    Source::Defined(hosted) if hosted.definition == definition => {
                        known.push(entry);
                        continue;
                    }
                    Source::Defined(hosted) => {
                        note_change(&hosted.definition, &definition);
                        if hosted.definition.host != definition.host {
                            moved.push(hosted);
                        }
                    }
                    Source::Spawned { .. } if entry.id().parent != id.parent => {
                        return Err(Error::Conflict(format!(
                            "Actor {} on ActorSystem {} exists already, spawned from {:?}",
                            id.name,
                            id.system,
                            entry.id().parent
                        )));
                    }
                    Source::Spawned { .. } => {}
                }
            }
            changes.push(Registered::Definition(definition));
        }
        changes.extend(retired);
        self.keep(&changes).await?;
        let fresh: Vec<_> = changes.into_iter().filter_map(|one| self.adopt(one)).collect();
        moved.sort_unstable_by_key(|hosted: &Hosted| hosted.host_limit);
        moved.dedup_by_key(|hosted| hosted.host_limit);
        for former in moved {
            if self.directory.forget_host_limit(&former) {
                // Without a limit it is forgotten when it is quiet.
                self.mailboxes.queue.set_class_limit(former.host_limit, usize::MAX);
            }
        }
        for entry in fresh.into_iter().chain(known) {
            self.warm_up(entry);
        }
        Ok(())
    }

    /// Returns the host's earlier definitions in this system that the registration lacks.
    fn retired(&self, registration: &Registration) -> Vec<Registered> {
        let Registration { system, host, definitions } = registration;
        let names: HashSet<&str, Seeded> =
            definitions.iter().map(|definition| definition.id.name.as_str()).collect();
        let former = self.directory.defined_by(host, system).into_iter();
        let gone = former.filter(|one| !one.retired && !names.contains(one.id.name.as_str()));
        gone.map(|definition| {
            info!(actor = %definition.id, "its host has registered without it: timers and channels are gone, its state stays");
            Registered::Definition(Arc::new(definition.retire()))
        })
        .collect()
    }

    async fn spawn_now(&self, spawn: Spawn) -> Result<Vec<Arc<Entry>>, Error> {
        let mut changes = Vec::new();
        let mut entries = Vec::new();
        let _changing = self.turn().await?;
        for id in spawn.actors {
            let known = self.directory.find(&id.system, &id.name);
            match self.spawned(id, spawn.revision)? {
                Some(change) => changes.push(change),
                None => entries.extend(known),
            }
        }
        self.keep(&changes).await?;
        entries.extend(changes.into_iter().filter_map(|change| self.adopt(change)));
        Ok(entries)
    }

    /// Finds what decides about a call: its actor. When the call asks to spawn that first: what it is spawned from, and
    /// the identity to [spawn](Self::spawn_one).
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
        if self.spawned(to_spawn.clone(), None)?.is_none()
            && let Ok(known) = find(&id.name)
        {
            return Ok((known, None));
        }
        Ok((find(parent)?, Some(to_spawn)))
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

    /// Returns the entry to store for a spawn; `None` when the actor is already registered.
    fn spawned(&self, id: ActorId, revision: Option<u64>) -> Result<Option<Registered>, Error> {
        for (field, name) in [("name", &id.name), ("system", &id.system), ("parent", &id.parent)] {
            check_name(name)
                .map_err(|error| Error::Invalid(format!("actors.{field} of {id} {error}")))?;
        }
        if self.directory.find(&id.system, &id.parent).is_none() {
            return Err(Error::NotFound(format!(
                "Actor {} cannot be spawned: its definition {} is not registered on ActorSystem {}",
                id.name, id.parent, id.system
            )));
        }
        if id.name == id.parent {
            // A template under its own name is already registered.
            return Ok(None);
        }
        if let Some(entry) = self.directory.find(&id.system, &id.name) {
            let parent = entry.id().parent.clone();
            let is_definition = matches!(entry.source(), Source::Defined(_));
            if parent != id.parent || is_definition {
                return Err(Error::Conflict(format!(
                    "Actor {} on ActorSystem {} exists already with parent {parent:?}",
                    id.name, id.system
                )));
            }
            if revision.is_none() || revision == entry.spec().revision {
                return Ok(None);
            }
        }
        Ok(Some(Registered::Spawned { id: Arc::new(id), revision }))
    }

    /// Waits for exclusive access to change the registry.
    async fn turn(&self) -> Result<MutexGuard<'_, ()>, Error> {
        timeout(CHANGE_LIMIT, self.changing.lock()).await.map_err(|_| Error::Overloaded {
            reason: "older changes to what is registered are still being stored".into(),
            retry_after: Duration::from_secs(1),
        })
    }

    async fn keep(&self, changes: &[Registered]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let changes = changes.iter().cloned().map(RegistryChange::Put).collect();
        self.apply(changes).await
    }

    async fn apply(&self, changes: Vec<RegistryChange>) -> Result<(), Error> {
        timeout(CHANGE_LIMIT, self.registry.apply(changes)).await.map_err(|_| {
            Error::Internal(format!(
                "the registry took longer than {CHANGE_LIMIT:?}; it may have been changed"
            ))
        })??;
        Ok(())
    }

    /// Removes a spawned identity. A host's own definition stays, and so does an actor that others were spawned from.
    pub(crate) async fn forget(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        let _changing = self.turn().await?;
        if matches!(entry.source(), Source::Defined(_)) {
            return Ok(());
        }
        let instances = entry.instances();
        if instances > 0 {
            info!(actor = %entry.actor, instances, "others were spawned from it: it stays registered");
            return Ok(());
        }
        self.apply(vec![RegistryChange::Remove(entry.id())]).await?;
        self.directory.remove(entry);
        Ok(())
    }

    fn warm_up(&self, entry: Arc<Entry>) {
        // One warm-up at a time for each actor, so repeated registrations of a host do not pile up.
        if !entry.spec().hosted.definition.is_warmed_up()
            || entry.warming.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (mailboxes, warm_ups) = (self.mailboxes.clone(), self.warm_ups.clone());
        self.tasks.spawn(async move {
            let Ok(_one_of_few) = warm_ups.acquire().await else { return };
            if !mailboxes.is_closed() {
                let (reply, waiting) = Reply::new(&Timing::new(mailboxes.deadlines(), None));
                mailboxes.ask(&entry, Task::WarmUp(reply));
                if let Err(error) = waiting.answer().await {
                    warn!(actor = %entry.actor, %error, "warm-up failed; the first call will try again");
                }
            }
            entry.warming.store(false, Ordering::Release);
        });
    }
}

fn note_change(old: &Definition, new: &Definition) {
    if old.host == new.host {
        info!(actor = %new.id, "definition replaced");
    } else {
        info!(actor = %new.id, from = %old.host, to = %new.host, "host address replaced");
    }
}

/// Logs what a definition needs and this version does not have yet.
fn note_unbuilt(definition: &Definition) {
    let unbuilt = [
        (!definition.timers.is_empty(), "its timers do not fire"),
        (definition.channels.iter().flatten().next().is_some(), "its channels deliver nothing"),
        (definition.kind == Kind::Pooled, "it is one actor, not a pool"),
    ];
    for (_, what) in unbuilt.iter().filter(|(asked, _)| *asked) {
        warn!(actor = %definition.id, "not built yet: {what}");
    }
}

fn check_definition(definition: &Definition) -> Result<(), Error> {
    let id = &definition.id;
    let wrong = |field: &str, error| {
        Error::Invalid(format!("actor_system.registry: id.{field} of actor {id} {error}"))
    };
    check_name(&id.name).map_err(|error| wrong("name", error))?;
    check_name(&id.system).map_err(|error| wrong("system", error))?;
    if !id.parent.is_empty() {
        check_name(&id.parent).map_err(|error| wrong("parent", error))?;
    }
    Ok(())
}
