//! Announce: refuses a call before its content is read, by what is known then: its client, and the system that it says it is for.
//!
//! The calls of a client are counted here, once: [`Announced`] travels with the call. The limit of the system is only looked at,
//! and counted when the call has passed its policies: a client that may not call a system uses up nothing of it. So is
//! the admission: the size of the call and the share of its host are not known yet.

use tidegate_pipeline::layer::RateLimitLayer;

use super::limits::{OF_IDENTITY, OF_PEER, OF_SYSTEM, refused_early};
use crate::call::Checked;
use crate::error::Error;
use crate::identity::{Identity, IdentityName, PeerAddress};
use crate::placement::Mailboxes;

/// Proof that a call was counted for its client.
#[derive(Debug)]
#[must_use]
pub struct Announced(());

/// What calls are announced to; see the [module](self).
#[derive(Debug)]
pub(crate) struct Announce {
    pub(crate) peer: Option<RateLimitLayer<Identity, PeerAddress>>,
    pub(crate) identity: Option<RateLimitLayer<Identity, IdentityName>>,
    /// The stage wears it too.
    pub(crate) system: Option<RateLimitLayer<Checked, String>>,
    pub(crate) mailboxes: Mailboxes,
}

impl Announce {
    /// Counts a call of this client.
    ///
    /// # Errors
    /// When the client or the system has had its calls, or no place is free.
    pub(crate) fn announce(&self, client: &Identity, system: &str) -> Result<Announced, Error> {
        if let Some(limit) = &self.peer {
            limit.count(client).map_err(|error| refused_early(OF_PEER, error))?;
        }
        if let Some(limit) = &self.identity {
            limit.count(client).map_err(|error| refused_early(OF_IDENTITY, error))?;
        }
        if let Some(limit) = &self.system {
            limit.look(system).map_err(|error| refused_early(OF_SYSTEM, error))?;
        }
        self.mailboxes.look()?;
        Ok(Announced(()))
    }
}
