//! Announce: refuses a call before the content of the call is read. Only the client is known then, and the system in the path.
//!
//! The rate limits of the client are charged here, once: [`Announced`] travels with the call. The rate limit of the system is
//! only looked at here. It is charged when the call has passed the policies, so that a client that may not call a system uses
//! up nothing of the system's rate. The admission is only looked at, too: the size of the call and its host are not known yet.

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
