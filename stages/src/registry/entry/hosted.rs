//! Hosted: a definition at one of its hosts.

use std::sync::Arc;

use tidegate_pipeline::{Permit, Share};

use crate::actor::{ActorRef, Definition, HostAddress};
use crate::error::Error;
use crate::registry::hosts::{OneHost, Several};
use crate::registry::known_host::KnownHost;

/// A definition, and the number of the limit on calls in flight that all definitions of its host share. When there are several
/// hosts, it is a definition at one of them: see [`hosts`](crate::registry::hosts).
#[derive(Debug, Clone)]
pub(crate) struct Hosted {
    pub(crate) definition: Arc<Definition>,
    pub(crate) host_limit: u32,
    /// What else they share.
    pub(crate) host: Arc<KnownHost>,
    /// All hosts, when there are several.
    pub(crate) several: Option<Arc<Several>>,
}

impl Hosted {
    /// Whether a call of this action needs the host. False when the proxy answers it itself and no init action comes first.
    pub(crate) fn needs_host(&self, action: &str) -> bool {
        !self.definition.is_default_action(action) || self.calls_init()
    }

    /// The limit of a turn that activates the actor and runs no action.
    pub(crate) fn limit_to_activate(&self, actor: &ActorRef) -> u32 {
        if self.calls_init() { self.choose(actor, None).0 } else { 0 }
    }

    /// Whether an activation calls a host. While all hosts are away it does not: a stored state is told without the init action,
    /// and any other turn gets a host when it is granted.
    fn calls_init(&self) -> bool {
        self.definition.init_action().is_some() && !self.is_away()
    }

    /// The limit of a call of this action that was admitted with this permit.
    pub(crate) fn limit_for(&self, action: &str, permit: Option<&Permit>, actor: &ActorRef) -> u32 {
        if self.needs_host(action) { self.admitted_for(permit, actor).0 } else { 0 }
    }

    /// All hosts.
    pub(crate) fn all_hosts(&self) -> Vec<OneHost> {
        match &self.several {
            Some(several) => several.all.to_vec(),
            None => vec![OneHost {
                limit: self.host_limit,
                address: self.definition.host().clone(),
                known: self.host.clone(),
            }],
        }
    }

    /// Where the host of the turn listens.
    pub(crate) fn address(&self) -> &HostAddress {
        let several = self.several.as_ref();
        several
            .and_then(|several| several.find(self.host_limit))
            .map_or_else(|| self.definition.host(), |one| &one.address)
    }

    /// The same for a turn that counts against this limit. When that host has left the set: for one of the others.
    #[must_use]
    pub(crate) fn at(mut self, limit: u32, actor: &ActorRef) -> Self {
        if limit != 0
            && let Some(several) = &self.several
        {
            let one = several.find(limit).unwrap_or_else(|| several.choose(actor, None));
            (self.host_limit, self.host) = (one.limit, one.known.clone());
        }
        self
    }

    /// What is known of the host with this limit; of one of the hosts if it has left.
    pub(crate) fn known(&self, limit: u32) -> &Arc<KnownHost> {
        let several = self.several.as_ref();
        several.and_then(|several| several.find(limit)).map_or(&self.host, |one| &one.known)
    }

    /// The host for a turn of this actor, if possible not `other_than`.
    pub(crate) fn choose(
        &self,
        actor: &ActorRef,
        other_than: Option<u32>,
    ) -> (u32, &Arc<KnownHost>) {
        match &self.several {
            None => (self.host_limit, &self.host),
            Some(several) => {
                let one = several.choose(actor, other_than);
                (one.limit, &one.known)
            }
        }
    }

    /// The host in whose share a call was admitted; one that is chosen now if there is none.
    pub(crate) fn admitted_for(
        &self,
        permit: Option<&Permit>,
        actor: &ActorRef,
    ) -> (u32, &Arc<KnownHost>) {
        let Some(several) = &self.several else { return (self.host_limit, &self.host) };
        let of_permit = permit.and_then(|permit| {
            several.all.iter().find(|one| permit.is_charged_to(&one.known.admitted))
        });
        of_permit.map_or_else(|| self.choose(actor, None), |one| (one.limit, &one.known))
    }

    /// The host for a queued turn: its own, unless that has left the set or is away.
    pub(crate) fn still(&self, limit: u32, actor: &ActorRef) -> (u32, &Arc<KnownHost>) {
        let Some(several) = &self.several else { return (self.host_limit, &self.host) };
        match several.find(limit) {
            Some(one) if !one.known.reachability.is_away() || self.is_away() => {
                (one.limit, &one.known)
            }
            _ => self.choose(actor, None),
        }
    }

    /// The shares in which a call of this actor may be admitted, the best first. Hosts that are away come in none, if another
    /// one is not.
    pub(crate) fn shares(&self, actor: &ActorRef) -> impl Iterator<Item = &Arc<Share>> {
        let (first, known) = self.choose(actor, None);
        let others = self.several.iter().flat_map(move |several| {
            let is_other =
                move |one: &&OneHost| one.limit != first && !one.known.reachability.is_away();
            several.all.iter().filter(is_other).map(|one| &one.known.admitted)
        });
        std::iter::once(&known.admitted).chain(others)
    }

    /// Whether all its hosts are away.
    pub(crate) fn is_away(&self) -> bool {
        self.every(|host| host.reachability.is_away())
    }

    /// Why synchronous calls fail at once, if they do: all its hosts have been away for longer than the grace.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let refusal = self.host.reachability.refusal()?;
        self.every(|host| host.reachability.refusal().is_some()).then_some(refusal)
    }

    fn every(&self, is_so: impl Fn(&KnownHost) -> bool) -> bool {
        match &self.several {
            None => is_so(&self.host),
            Some(several) => several.all.iter().all(|one| is_so(&one.known)),
        }
    }
}
