//! Plan: decides what a change writes, given the entries that exist.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidegate_pipeline::randomness::Seeded;
use tracing::{info, warn};

use crate::actor::{ActorId, Definition, HostAddress, HostSet, Kind, check_name};
use crate::error::Error;
use crate::invocation::{Registration, Spawn};
use crate::ports::{Registered, RegistryChange};
use crate::registry::directory::Directory;
use crate::registry::entry::{Entry, Source};
use crate::registry::hosts::OneHost;

mod hosts;

pub(super) use hosts::leave;

use hosts::{joined, without};

/// The number of the kind PROJECTION, of later protocols.
const PROJECTION: i32 = 6;

/// The outcome of planning a change.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is to be stored.
    pub(super) writes: Vec<RegistryChange>,
    /// Entries of the change that are registered already.
    pub(super) known: Vec<Arc<Entry>>,
    /// Hosts that definitions had and have no more.
    pub(super) moved: Vec<OneHost>,
    /// The key of a deleted actor that goes, if none of its rows is needed.
    pub(super) given_back: Option<Arc<ActorId>>,
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

    /// Notes the hosts that are not kept.
    fn moves(&mut self, former: Vec<OneHost>, kept: &HostSet) {
        self.moved.extend(former.into_iter().filter(|one| !kept.all().contains(&one.address)));
    }
}

/// Plans a host's registration. With `join` the host joins those that its definitions have.
///
/// # Errors
/// When a definition is invalid, has the name of an actor with another parent, or has too many hosts.
pub(super) fn registration(
    directory: &Directory,
    registration: Registration,
    join: bool,
    timers_are_on: bool,
) -> Result<Plan, Error> {
    for definition in &registration.definitions {
        check_definition(definition)?;
        note_bindings(definition);
        note_kind(definition);
    }
    let mut plan = Plan { warms_up: true, ..Plan::default() };
    retire(&mut plan, directory, &registration);
    for mut definition in registration.definitions {
        let found = directory.find(&definition.id.system, &definition.id.name);
        if let Some(Source::Defined(hosted)) = found.as_ref().map(|entry| entry.source())
            && join
            && !hosted.definition.retired
        {
            definition.hosts = joined(&hosted, &registration.host)?;
        }
        let definition = Arc::new(definition);
        let id = &definition.id;
        if let Some(entry) = found {
            match entry.source() {
                Source::Defined(hosted) if hosted.definition == definition => {
                    plan.known.push(entry);
                    continue;
                }
                Source::Defined(hosted) => {
                    note_change(&hosted.definition, &definition);
                    plan.moves(hosted.all_hosts(), &definition.hosts);
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
        note_timers(&definition, timers_are_on);
        plan.put(directory, Registered::definition(definition));
    }
    plan.moved.sort_unstable_by_key(|host| host.limit);
    plan.moved.dedup_by_key(|host| host.limit);
    Ok(plan)
}

/// Adds the host's earlier definitions in this system that the registration lacks. One of other hosts stays theirs.
fn retire(plan: &mut Plan, directory: &Directory, registration: &Registration) {
    let Registration { system, host, definitions } = registration;
    let names: HashSet<&str, Seeded> =
        definitions.iter().map(|definition| definition.id.name.as_str()).collect();
    let gone = directory.definitions(|one| {
        !one.retired
            && one.id.system == *system
            && one.hosts.all().contains(host)
            && !names.contains(one.id.name.as_str())
    });
    for definition in gone {
        let left = if let Some(hosts) = without(&definition.hosts, host) {
            info!(actor = %definition.id, %host, "one of its hosts has registered without it: others go on");
            plan.moved.extend(directory.host(host));
            Definition { hosts, ..Definition::clone(&definition) }
        } else {
            info!(actor = %definition.id, "its host has registered without it: timers and channels are gone, its state stays");
            definition.retire()
        };
        plan.put(directory, Registered::definition(left.into()));
    }
}

/// Plans a spawn.
///
/// # Errors
/// As [`spawned`].
pub(super) fn spawn(directory: &Directory, spawn: Spawn) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut parents = HashMap::<_, _, Seeded>::default();
    for id in spawn.actors {
        let name = (id.system.clone(), id.name.clone());
        let parent = parents.entry(name).or_insert_with(|| id.parent.clone());
        if *parent != id.parent {
            return Err(Error::Conflict(format!(
                "Actor {} on ActorSystem {} is named twice, with the parents {parent:?} and {:?}",
                id.name, id.system, id.parent
            )));
        }
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

/// Plans that a spawned actor does not load the revision any more that its spawn asked for. Another spawn may have asked for
/// another one meanwhile.
pub(super) fn restored(directory: &Directory, entry: &Entry, loaded: u64) -> Plan {
    let mut plan = Plan::default();
    let is_asked_for =
        |source| matches!(source, Source::Spawned { revision, .. } if revision == Some(loaded));
    if !entry.is_removed() && is_asked_for(entry.source()) {
        plan.put(directory, Registered::spawned(entry.id(), None));
    }
    plan
}

/// Plans the removal of a key that is kept. The name may have been registered and deleted again meanwhile.
pub(super) fn give_back(directory: &Directory, key: &ActorId) -> Plan {
    let mut plan = Plan::default();
    if let Some(key) = directory.kept_key(&key.system, &key.name) {
        plan.writes.push(RegistryChange::Remove(key.clone()));
        plan.given_back = Some(key);
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
    } else if old.hosts.all().iter().all(|host| new.hosts.all().contains(host)) {
        let hosts: Vec<_> = new.hosts.all().iter().map(HostAddress::as_str).collect();
        info!(actor = %new.id, ?hosts, "one more host");
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

/// Logs timers that do not tick, or not yet.
fn note_timers(definition: &Definition, are_on: bool) {
    let (id, timers) = (&definition.id, definition.timers.len());
    let is_template = matches!(definition.kind, Kind::Unnamed | Kind::Pooled { .. });
    if timers > 0 && !are_on {
        warn!(actor = %id, timers, "has timers that do not tick: SPAWN_DELAYED_INVOKES is false");
    } else if timers > 0 && !is_template && !definition.is_warmed_up() {
        warn!(actor = %id, timers, "has timers and no metadata: they start with its first call");
    }
}

/// Logs bindings of channels that do less than they say.
fn note_bindings(definition: &Definition) {
    let (id, all) = (&definition.id, definition.channels.as_deref().unwrap_or_default());
    let named = all.iter().filter(|bound| !bound.topic.is_empty()).count();
    if named < all.len() {
        warn!(actor = %id, "binds a channel without a topic: that binding does not count");
    }
    if definition.bindings().count() < named {
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
