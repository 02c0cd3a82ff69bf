//! Hosts: lists the hosts of a system's definitions, and drains one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::actor::HostAddress;
use crate::error::Error;
use crate::mesh::Mesh;
use crate::registry::hosts::Leave;
use crate::registry::reachability::Phase;

/// How long draining a host waits for its running turns.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// How often it looks at them.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A host of definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// Where it listens.
    pub address: HostAddress,
    /// How long it has accepted no connections; `None`: it does, as far as is known.
    pub away_for: Option<Duration>,
    /// Whether no call has reached it since it registered.
    pub is_new: bool,
    /// How many definitions of the system have it.
    pub definitions: usize,
    /// How many turns run there, of all systems.
    pub running: usize,
}

impl Mesh {
    /// Lists the hosts of a system's definitions, by their addresses. Reads every registered actor.
    pub fn hosts(&self, system: &str) -> Vec<HostView> {
        let mut by_address: BTreeMap<HostAddress, usize> = BTreeMap::new();
        for definition in self.directory.definitions(|one| one.id.system == system) {
            for address in definition.hosts.all() {
                *by_address.entry(address.clone()).or_default() += 1;
            }
        }
        let view = |(address, definitions)| {
            let host = self.directory.host(&address)?;
            let reachability = &host.known.reachability;
            Some(HostView {
                address,
                away_for: reachability.is_away().then(|| reachability.away_for()),
                is_new: reachability.phase() == Phase::New,
                definitions,
                running: self.mailboxes.queue.in_flight_of(host.limit),
            })
        };
        by_address.into_iter().filter_map(view).collect()
    }

    /// Removes a host from the definitions of a system, durably: it gets no new turns, and what waits for it goes to their other
    /// hosts. Waits until the turns that run there are over, 20 s at most. Returns how many still run. The host joins again when
    /// it registers.
    ///
    /// # Errors
    /// When no definition of the system has it, one has no other host, nothing could be stored, or the mesh is draining.
    pub async fn drain_host(&self, system: &str, host: &HostAddress) -> Result<usize, Error> {
        self.refuse_while_closed()?;
        let known = self.directory.host(host);
        let leave = Leave { host: host.clone(), system: Some(system.into()) };
        self.registrar.leave(leave).await?;
        let Some(known) = known else { return Ok(0) };
        let until = Instant::now() + DRAIN_LIMIT;
        loop {
            let running = self.mailboxes.queue.in_flight_of(known.limit);
            if running == 0 || Instant::now() >= until {
                return Ok(running);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
