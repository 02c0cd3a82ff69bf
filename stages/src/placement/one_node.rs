//! One node: every actor is here.

use crate::actor::ActorRef;
use crate::ports::{Location, Placement};

/// The placement of a proxy that owns its store alone.
#[derive(Debug)]
pub(crate) struct OneNode {
    /// The epoch of this start of the proxy, which owns every actor.
    pub(crate) epoch: u64,
}

impl Placement for OneNode {
    fn locate(&self, _: &ActorRef) -> Location {
        Location::Here
    }

    fn owner_epoch(&self, _: &ActorRef) -> u64 {
        self.epoch
    }
}
