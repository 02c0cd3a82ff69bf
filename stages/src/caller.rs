//! Caller: checks a call, finds its actor, and admits or refuses it.
//!
//! Before its content is read a call is [announced](announce). In [`Request`], out [`Admitted`]. Two services: [`check`] passes a [`Checked`](crate::call::Checked) call on to
//! [`admit`]. A call that is refused here was never started. A call that a rate limit or a policy refuses spawned no
//! actor either.

mod announce;
mod admit;
mod allow;
mod check;
mod limits;

pub(crate) use admit::{Admit, AdmitInner};
pub(crate) use allow::Allow;
pub(crate) use announce::Announce;
pub use announce::Announced;
pub(crate) use check::Check;
pub(crate) use limits::{counted_per_system, per_definition, per_identity, per_peer, per_system};

use tower::util::BoxCloneSyncService;

use crate::call::{Admitted, Request};
use crate::error::Error;

/// The stage with the layers that it wears.
pub(crate) type CallerService = BoxCloneSyncService<Request, Admitted, Error>;
