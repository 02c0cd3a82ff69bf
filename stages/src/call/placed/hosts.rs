//! Hosts: gives a turn another one of its actor's hosts, as long as no host has seen it.

use std::sync::Arc;

use super::{Placed, Task};
use crate::registry::known_host::KnownHost;

impl Placed {
    /// Gives it another host when its own has left the hosts of its actor, or is away and another one is not.
    pub(crate) fn keep_host(&mut self) {
        if self.host_limit != 0 {
            let (limit, known) = self.entry.with_hosted(|hosted| {
                let (limit, known) = hosted.still(self.host_limit, &self.entry.mailbox);
                (limit, known.clone())
            });
            self.move_to(limit, &known);
        }
    }

    /// Gives it one of its actor's hosts: it was queued without one, and needs it.
    pub(crate) fn take_host(&mut self) {
        let (limit, known) = self.entry.with_hosted(|hosted| {
            let (limit, known) = hosted.choose(&self.entry.mailbox, None);
            (limit, known.clone())
        });
        self.move_to(limit, &known);
    }

    /// Gives a turn that did not reach its host to another one that is not away. Returns whether there is one and the turn may
    /// be tried there at once: it may for its first failure.
    pub(crate) fn go_elsewhere(&mut self) -> bool {
        let other = self.entry.with_hosted(|hosted| {
            let (limit, known) = hosted.choose(&self.entry.mailbox, Some(self.host_limit));
            let is_other = limit != self.host_limit && !known.reachability.is_away();
            is_other.then(|| (limit, known.clone()))
        });
        let Some((limit, known)) = other else { return false };
        self.move_to(limit, &known);
        self.retries.is_first() && self.retries.next().is_some()
    }

    /// The host with this limit has its turn from now on.
    fn move_to(&mut self, host_limit: u32, known: &Arc<KnownHost>) {
        if host_limit == self.host_limit {
            return;
        }
        self.host_limit = host_limit;
        if let Task::Call(call) = &mut self.task
            && let Some(permit) = &mut call.permit
        {
            permit.charge(&known.admitted);
        }
        if let Some(place) = &mut self.place {
            place.charge(known);
        }
    }
}
