//! Hosts: the hosts of a definition that has several, and the one that a turn is for.
//!
//! A host is chosen when a turn is admitted or queued. From then on the turn counts against the limit of this host, and its
//! places against the share of this host. Hosts that are away are chosen only when all are. When the host of a turn leaves the
//! set or is away, and was not sent the turn, another host is chosen.

mod strategy;

pub use strategy::HostChoice;

pub(crate) use strategy::{RANDOM, Strategy};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::strategy::Candidate;
use crate::actor::{ActorRef, HostAddress};
use crate::registry::known_host::KnownHost;

/// Hosts that one definition may have.
pub(crate) const MOST: usize = 64;

/// How the hosts of a definition are kept and chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRules {
    /// Whether a registration from another address joins the hosts of its definitions. Otherwise it replaces them.
    pub join: bool,
    /// Which host a turn is for.
    pub choice: HostChoice,
    /// How long one of several hosts may be away; then it is removed.
    pub leave_after: Duration,
}

impl Default for HostRules {
    fn default() -> Self {
        let leave_after = Duration::from_mins(10);
        Self { join: false, choice: HostChoice::default(), leave_after }
    }
}

/// A host leaves the definitions that have others.
#[derive(Debug, Clone)]
pub(crate) struct Leave {
    pub(crate) host: HostAddress,
    /// An administrator asks for it, for the definitions of this system. `None`: it was away for too long.
    pub(crate) system: Option<String>,
}

/// One host, as the definitions that name it share it.
#[derive(Debug, Clone)]
pub(crate) struct OneHost {
    /// The number of its limit on calls in flight.
    pub(crate) limit: u32,
    pub(crate) address: HostAddress,
    pub(crate) known: Arc<KnownHost>,
}

/// The hosts of a definition that has several.
#[derive(Debug)]
pub(crate) struct Several {
    pub(crate) all: Box<[OneHost]>,
    strategy: &'static dyn Strategy,
    turns: AtomicU64,
}

impl Several {
    /// `first` is the number of the first turn. Definitions begin with different ones, so that not all their first turns are
    /// for the same host.
    pub(crate) fn new(all: Vec<OneHost>, strategy: &'static dyn Strategy, first: u64) -> Self {
        Self { all: all.into(), strategy, turns: AtomicU64::new(first) }
    }

    /// The host with this limit.
    pub(crate) fn find(&self, limit: u32) -> Option<&OneHost> {
        self.all.iter().find(|one| one.limit == limit)
    }

    /// The host for a turn of this actor. Hosts that are away are left out, and so is `other_than`; if no other is left, they are not.
    pub(crate) fn choose(&self, actor: &ActorRef, other_than: Option<u32>) -> &OneHost {
        // A second choice for the same turn takes no other host's turn.
        let step = u64::from(other_than.is_none());
        let turn = self.turns.fetch_add(step, Ordering::Relaxed);
        let is_here =
            |one: &&OneHost| Some(one.limit) != other_than && !one.known.reachability.is_away();
        let here = self.all.iter().filter(is_here);
        let count = here.clone().count();
        // Those that are here may go away meanwhile.
        let chosen = self.best(here, count.max(1), actor, turn);
        let all = || self.best(self.all.iter(), self.all.len(), actor, turn);
        chosen.or_else(all).expect("a definition has a host")
    }

    fn best<'a>(
        &self,
        hosts: impl Iterator<Item = &'a OneHost>,
        count: usize,
        actor: &ActorRef,
        turn: u64,
    ) -> Option<&'a OneHost> {
        let ranked = hosts.enumerate().map(|(place, one)| {
            let load = one.known.admitted.events();
            let candidate = Candidate { address: &one.address, load, place, count };
            (self.strategy.rank(&candidate, actor, turn), one)
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| one)
    }
}
