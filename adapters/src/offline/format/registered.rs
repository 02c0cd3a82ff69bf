//! Registered: the lines of what is registered.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_stages::actor::{ActorId, HostAddress, HostSet};
use tidegate_stages::ports::{Registered, RegisteredEntry};

use super::{Base64, Line};
use crate::wire;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Definition {
    system: String,
    name: String,
    host: String,
    /// The other hosts of a set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more_hosts: Vec<String>,
    retired: bool,
    raw: Base64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_parent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Spawned {
    system: String,
    name: String,
    parent: String,
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_parent: Option<String>,
}

/// An actor that was deleted, and whose rows of effects are left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Deleted {
    system: String,
    name: String,
    parent: String,
}

pub(in crate::offline) fn registered_out(entry: &Registered) -> Line {
    let key_parent = (entry.key.parent != entry.id().parent).then(|| entry.key.parent.clone());
    match &entry.entry {
        RegisteredEntry::Definition(definition) => Line::Definition(Definition {
            system: definition.id.system.clone(),
            name: definition.id.name.clone(),
            host: definition.host().as_str().into(),
            more_hosts: definition
                .hosts
                .all()
                .iter()
                .skip(1)
                .map(|host| host.as_str().into())
                .collect(),
            retired: definition.retired,
            raw: Base64(definition.raw.clone()),
            key_parent,
        }),
        RegisteredEntry::Spawned { id, revision } => Line::Spawned(Spawned {
            system: id.system.clone(),
            name: id.name.clone(),
            parent: id.parent.clone(),
            revision: *revision,
            key_parent,
        }),
        RegisteredEntry::Deleted(key) => {
            let ActorId { name, system, parent } = ActorId::clone(key);
            Line::Deleted(Deleted { system, name, parent })
        }
    }
}

pub(in crate::offline) fn definition_in(line: Definition) -> Result<Registered, String> {
    let hosts = std::iter::once(&line.host).chain(&line.more_hosts);
    let hosts = HostSet::new(hosts.map(|host| HostAddress::new(host)));
    let hosts = hosts.ok_or("a definition without a host")?;
    let definition = wire::definition(line.raw.0, hosts, &line.system)
        .map_err(|error| format!("`raw` {error}"))?;
    if definition.id.system != line.system || definition.id.name != line.name {
        return Err(format!("`raw` is the definition of {}", definition.id));
    }
    let definition = if line.retired { definition.retire() } else { definition };
    Ok(with_key(Registered::definition(Arc::new(definition)), line.key_parent))
}

pub(in crate::offline) fn spawned_in(line: Spawned) -> Registered {
    let id = ActorId { name: line.name, system: line.system, parent: line.parent };
    with_key(Registered::spawned(Arc::new(id), line.revision), line.key_parent)
}

pub(in crate::offline) fn deleted_in(line: Deleted) -> Registered {
    let Deleted { system, name, parent } = line;
    Registered::deleted(Arc::new(ActorId { name, system, parent }))
}

fn with_key(entry: Registered, key_parent: Option<String>) -> Registered {
    let Some(parent) = key_parent else { return entry };
    let key = ActorId { parent, ..entry.id().clone() };
    Registered { key: Arc::new(key), ..entry }
}
