//! Ownership: whether this process still owns its store, and who does otherwise.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

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
