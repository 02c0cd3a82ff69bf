//! Plan: decides what a change writes, given the entries that exist.

use std::collections::HashSet;
use std::sync::Arc;

use tidegate_pipeline::randomness::Seeded;
use tracing::{info, warn};

use crate::actor::{ActorId, Definition, Kind, check_name};
use crate::error::Error;
use crate::invocation::{Registration, Spawn};
use crate::ports::{Registered, RegistryChange};
use crate::registry::directory::Directory;
use crate::registry::entry::{Entry, Hosted, Source};

/// The number of the kind PROJECTION, of later protocols.
const PROJECTION: i32 = 6;

/// The outcome of planning a change.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is to be stored.
    pub(super) writes: Vec<RegistryChange>,
    /// Entries of the change that are registered already.
    pub(super) known: Vec<Arc<Entry>>,
    /// Definitions that another host's definitions replace.
    pub(super) moved: Vec<Hosted>,
    /// Whether the entries are activated if they are eligible.
    pub(super) warms_up: bool,
}

impl Plan {
    /// Adds an entry to be stored. An actor that is registered already, or that was deleted and whose key is kept, goes on with
    /// its key.
    fn put(&mut self, directory: &Directory, mut one: Registered) {
        let id = one.id();
        if let Some(known) = directory.find(&id.system, &id.name) {
            one.key = known.key.clone();
        } else if let Some(kept) = directory.kept_key(&id.system, &id.name) {
            one.key = kept;
        }
        self.writes.push(RegistryChange::Put(one));
    }
}

/// Plans a host's registration.
///
/// # Errors
/// When a definition is invalid, or has the name of an actor with another parent.
pub(super) fn registration(
    directory: &Directory,
    registration: Registration,
) -> Result<Plan, Error> {
    for definition in &registration.definitions {
        check_definition(definition)?;
        note_bindings(definition);
        note_kind(definition);
    }
    let mut plan = Plan { warms_up: true, ..Plan::default() };
    let retired = retired(directory, &registration);
    for definition in registration.definitions {
        let definition = Arc::new(definition);
        let id = &definition.id;
        if let Some(entry) = directory.find(&id.system, &id.name) {
            match entry.source() {
                Source::Defined(hosted) if hosted.definition == definition => {
                    plan.known.push(entry);
                    continue;
                }
                Source::Defined(hosted) => {
                    note_change(&hosted.definition, &definition);
                    if hosted.definition.hosts != definition.hosts {
                        plan.moved.push(hosted);
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
        plan.put(directory, Registered::definition(definition));
    }
    for definition in retired {
        plan.put(directory, Registered::definition(definition.into()));
    }
    plan.moved.sort_unstable_by_key(|hosted: &Hosted| hosted.host_limit);
    plan.moved.dedup_by_key(|hosted| hosted.host_limit);
    Ok(plan)
}

/// Returns the host's earlier definitions in this system that the registration lacks.
fn retired(directory: &Directory, registration: &Registration) -> Vec<Definition> {
    let Registration { system, host, definitions } = registration;
    let names: HashSet<&str, Seeded> =
        definitions.iter().map(|definition| definition.id.name.as_str()).collect();
    let former = directory.defined_by(host, system).into_iter();
    let gone = former.filter(|one| !one.retired && !names.contains(one.id.name.as_str()));
    gone.map(|definition| {
        info!(actor = %definition.id, "its host has registered without it: timers and channels are gone, its state stays");
        definition.retire()
    })
    .collect()
}

/// Plans a spawn.
///
/// # Errors
/// As [`spawned`].
pub(super) fn spawn(directory: &Directory, spawn: Spawn) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    for id in spawn.actors {
        let known = directory.find(&id.system, &id.name);
        match spawned(directory, id, spawn.revision)? {
            Some(change) => plan.put(directory, change),
            None => plan.known.extend(known),
        }
    }
    Ok(plan)
}

/// Returns the entry to store for a spawn; `None` when the actor is already registered.
///
/// # Errors
/// When a name is invalid, the parent is unknown, or the actor has another parent.
pub(super) fn spawned(
    directory: &Directory,
    id: ActorId,
    revision: Option<u64>,
) -> Result<Option<Registered>, Error> {
    for (field, name) in [("name", &id.name), ("system", &id.system), ("parent", &id.parent)] {
        check_name(name)
            .map_err(|error| Error::Invalid(format!("actors.{field} of {id} {error}")))?;
    }
    if directory.find(&id.system, &id.parent).is_none() {
        return Err(Error::NotFound(format!(
            "Actor {} cannot be spawned: its definition {} is not registered on ActorSystem {}",
            id.name, id.parent, id.system
        )));
    }
    if id.name == id.parent {
        // A template under its own name is already registered.
        return Ok(None);
    }
    if let Some(entry) = directory.find(&id.system, &id.name) {
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
    Ok(Some(Registered::spawned(Arc::new(id), revision)))
}

/// Plans the removal of a spawned identity. A host's own definition stays, and so does an actor that others were spawned
/// from. With `keeps_key` the key stays registered.
pub(super) fn forget(entry: &Entry, keeps_key: bool) -> Plan {
    let mut plan = Plan::default();
    if matches!(entry.source(), Source::Defined(_)) {
        return plan;
    }
    let instances = entry.instances();
    if instances > 0 {
        info!(actor = %entry.actor, instances, "others were spawned from it: it stays registered");
    } else if keeps_key {
        plan.writes.push(RegistryChange::Put(Registered::deleted(entry.key.clone())));
    } else {
        plan.writes.push(RegistryChange::Remove(entry.id()));
    }
    plan
}

fn note_change(old: &Definition, new: &Definition) {
    if old.id.parent != new.id.parent {
        let (from, to) = (&old.id.parent, &new.id.parent);
        info!(actor = %new.id, from, to, "registered with another parent: its state and history go on");
    }
    if old.stateful && matches!(new.kind, Kind::Pooled { .. }) {
        info!(actor = %new.id, "it is a pool now: a state that is stored under its name stays, and is not used");
    }
    if old.hosts == new.hosts {
        info!(actor = %new.id, "definition replaced");
    } else {
        info!(actor = %new.id, from = %old.host(), to = %new.host(), "host address replaced");
    }
}

/// Logs a kind that is not what it says.
fn note_kind(definition: &Definition) {
    if let Kind::Other(number) = definition.kind {
        let name = if number == PROJECTION { "PROJECTION" } else { "unknown" };
        warn!(actor = %definition.id, number, name, "its kind is not served here: it is a NAMED actor");
    }
}

/// Logs bindings of channels that do less than they say.
fn note_bindings(definition: &Definition) {
    let (id, all) = (&definition.id, definition.channels.as_deref().unwrap_or_default());
    if definition.bindings().count() < all.len() {
        warn!(actor = %id, "binds a topic several times: its first binding counts");
    }
    for (topic, action) in definition.bindings().filter(|(_, action)| !definition.knows(action)) {
        warn!(actor = %id, topic, action, "has no such action: what its channel delivers fails");
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
