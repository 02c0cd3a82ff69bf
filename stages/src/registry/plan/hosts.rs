//! Hosts: an address joins the hosts of a definition, or leaves them.

use tracing::{info, warn};

use super::Plan;
use crate::actor::{Definition, HostAddress, HostSet};
use crate::error::Error;
use crate::placement::overloaded;
use crate::ports::Registered;
use crate::registry::directory::Directory;
use crate::registry::entry::Hosted;
use crate::registry::hosts::{Leave, MOST};

/// The hosts of a definition that one more host has registered. When there are too many, one that is away makes way.
///
/// # Errors
/// When there are too many and none is away.
pub(super) fn joined(hosted: &Hosted, host: &HostAddress) -> Result<HostSet, Error> {
    let hosts = &hosted.definition.hosts;
    if hosts.all().contains(host) {
        return Ok(hosts.clone());
    }
    let mut all = hosts.all().to_vec();
    if all.len() >= MOST {
        let known = hosted.all_hosts();
        let Some(away) = known.iter().find(|one| one.known.reachability.is_away()) else {
            let id = &hosted.definition.id;
            let text = format!("{id} has {MOST} hosts, and there is no capacity for one more");
            return Err(overloaded("registry", text));
        };
        all.retain(|one| *one != away.address);
    }
    all.push(host.clone());
    Ok(HostSet::new(all).unwrap_or_else(|| host.clone().into()))
}

/// The set without a host; `None` when no other is left.
pub(super) fn without(hosts: &HostSet, host: &HostAddress) -> Option<HostSet> {
    HostSet::new(hosts.all().iter().filter(|one| *one != host).cloned())
}

/// Plans that a host leaves the definitions that have others.
///
/// # Errors
/// When an administrator asked for it, and no definition has the host, or one has no other.
pub(in crate::registry) fn leave(directory: &Directory, leave: &Leave) -> Result<Plan, Error> {
    let Leave { host, system } = leave;
    let is_meant = |one: &Definition| {
        one.hosts.all().contains(host)
            && system.as_ref().is_none_or(|system| one.id.system == *system)
    };
    let (mut plan, mut alone) = (Plan::default(), None);
    let of_host = directory.definitions(is_meant);
    for definition in &of_host {
        if let Some(hosts) = without(&definition.hosts, host) {
            let left = Definition { hosts, ..Definition::clone(definition) };
            plan.put(directory, Registered::definition(left.into()));
        } else if !definition.retired {
            alone = Some(&definition.id);
        }
    }
    let definitions = plan.writes.len();
    match (system, alone) {
        (Some(system), _) if of_host.is_empty() => {
            return Err(Error::NotFound(format!(
                "no definition of ActorSystem {system} has a host at {host}"
            )));
        }
        (Some(_), Some(alone)) => {
            return Err(Error::Conflict(format!(
                "{alone} has no other host than {host}: register one first"
            )));
        }
        (Some(_), None) => info!(%host, definitions, "a host is drained: it gets no new turns"),
        (None, _) if definitions > 0 => {
            warn!(%host, definitions, "a host was away for too long: it is no host of these definitions any more");
        }
        (None, _) => {}
    }
    if definitions > 0 {
        plan.moved.extend(directory.host(host));
    }
    Ok(plan)
}
