//! Ownership: whether this process still owns its store, who does otherwise, and the check that decides it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// What is known of the owner of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerStatus {
    /// It says that it lives: a start finds it. Whoever asks has claimed nothing.
    Living,
    /// It has claimed the store; whether it lives is not looked at. The check of each request and each write.
    Claimed,
}

/// What a check of ownership is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerSeen {
    /// What is known of the owner.
    pub status: OwnerStatus,
    /// The newest epoch in the store.
    pub stored: u64,
    /// The epoch of who asks; 0: it has claimed none, and is to begin.
    pub own: u64,
}

/// The port that decides whether a process may use a store that may have another owner: the detector of a split brain.
pub trait OwnershipCheck: fmt::Debug + Send + Sync {
    /// Whether who asks may go on. `false` to a start ends it, to a write it is an error, and the process ends.
    fn may_go_on(&self, seen: OwnerSeen) -> bool;
}

/// The check by default: the newest epoch owns the store, and a start takes nothing from an owner that lives.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewestEpoch;

impl OwnershipCheck for NewestEpoch {
    fn may_go_on(&self, seen: OwnerSeen) -> bool {
        seen.own >= seen.stored
    }
}

/// The owner of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its epoch.
    pub epoch: u64,
    /// Where it is; `None`: it does not say.
    pub address: Option<String>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "the proxy at {address} (epoch {})", self.epoch),
            None => write!(f, "another process (epoch {})", self.epoch),
        }
    }
}

/// Whether this process still owns its store. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Ownership(Arc<State>);

#[derive(Debug, Default)]
struct State {
    later: OnceLock<Owner>,
    is_lost: CancellationToken,
}

impl Ownership {
    /// Notes that a later owner has claimed the store; the first note counts.
    #[cfg_attr(
        not(feature = "scylla"),
        expect(dead_code, reason = "no other store has two owners")
    )]
    pub(super) fn lose(&self, to: Owner) {
        self.0.later.get_or_init(|| to);
        self.0.is_lost.cancel();
    }

    /// The later owner, if there is one.
    pub fn later(&self) -> Option<&Owner> {
        self.0.later.get()
    }

    /// Waits until a later owner is known. Cancel safe.
    pub async fn lost(&self) -> Owner {
        loop {
            self.0.is_lost.cancelled().await;
            if let Some(owner) = self.later() {
                return owner.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_epoch_goes_on_and_a_living_owner_is_left_alone() {
        let may = |status, stored, own| NewestEpoch.may_go_on(OwnerSeen { status, stored, own });
        assert!(may(OwnerStatus::Claimed, 7, 7) && may(OwnerStatus::Claimed, 7, 8));
        assert!(!may(OwnerStatus::Claimed, 7, 6));
        assert!(!may(OwnerStatus::Living, 7, 0) && may(OwnerStatus::Living, 7, 7));
    }
}
