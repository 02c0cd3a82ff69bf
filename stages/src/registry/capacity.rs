//! Capacity: how many actors and hosts may be registered.

use std::collections::HashMap;

use crate::actor::HostAddress;
use crate::error::Error;
use crate::placement::overloaded;
use crate::ports::RegistryChange;
use crate::registry::directory::Directory;
use crate::registry::plan::Plan;

/// Hosts that may be registered at once; each has a limit on calls in flight of its own.
const HOSTS: usize = 10_000;

/// How many actors may be registered: definitions and spawned names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryBounds {
    /// In one system.
    pub system: usize,
    /// In all systems together.
    pub all: usize,
}

impl Default for RegistryBounds {
    fn default() -> Self {
        Self { system: 1_000_000, all: 2_000_000 }
    }
}

/// Refuses the registration of a new host when there are too many.
///
/// # Errors
/// When so many hosts are known that this one has no place.
pub(super) fn check_host(directory: &Directory, host: &HostAddress) -> Result<(), Error> {
    let (is_known, hosts) = directory.knows_host(host);
    if is_known || hosts < HOSTS {
        return Ok(());
    }
    Err(overloaded(
        "registry",
        format!("{hosts} hosts are registered, and there is no capacity for one more"),
    ))
}

/// New names of changes that are planned and not stored yet.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    by_system: HashMap<String, usize>,
    all: usize,
}

impl NewNames {
    /// Adds the new names of a change.
    ///
    /// # Errors
    /// When there is no capacity for all of them; none is added then.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        directory: &Directory,
        bounds: RegistryBounds,
    ) -> Result<(), Error> {
        let mut by_system: HashMap<&str, usize> = HashMap::new();
        for write in &plan.writes {
            let RegistryChange::Put(one) = write else { continue };
            let id = one.id();
            let is_counted = directory.find(&id.system, &id.name).is_some()
                || directory.kept_key(&id.system, &id.name).is_some();
            if !is_counted {
                *by_system.entry(&id.system).or_default() += 1;
            }
        }
        let new: usize = by_system.values().sum();
        let all = directory.registered() + self.all + new;
        if new > 0 && all > bounds.all {
            return Err(overloaded(
                "registry",
                format!(
                    "{} actors are registered, and there is no capacity for {new} more: \
                     TIDEGATE_MAX_REGISTERED is {}",
                    directory.registered(),
                    bounds.all
                ),
            ));
        }
        for (system, new) in &by_system {
            let planned = self.by_system.get(*system).copied().unwrap_or_default();
            let registered = directory.registered_in(system);
            if registered + planned + new > bounds.system {
                return Err(overloaded(
                    "registry",
                    format!(
                        "ActorSystem {system} has {registered} actors, and there is no capacity for {new} more: \
                         TIDEGATE_MAX_REGISTERED_PER_SYSTEM is {}",
                        bounds.system
                    ),
                ));
            }
        }
        self.all += new;
        for (system, new) in by_system {
            *self.by_system.entry(system.to_owned()).or_default() += new;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Definition;
    use crate::actor::tests::definition;

    #[test]
    fn hosts_beyond_the_bound_are_refused_and_known_ones_are_not() {
        let directory = Directory::new();
        let host = |number: usize| HostAddress::new(&format!("10.0.0.1:{number}"));
        for number in 0..HOSTS {
            check_host(&directory, &host(number)).unwrap();
            directory.hosted(Definition { hosts: host(number).into(), ..definition("a") }.into());
        }
        assert!(matches!(check_host(&directory, &host(HOSTS)), Err(Error::Overloaded { .. })));
        check_host(&directory, &host(7)).unwrap();
    }
}
