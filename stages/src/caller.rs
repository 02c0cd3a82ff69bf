//! Caller: checks a call, finds its actor, and admits or refuses it.
//!
//! In [`Request`], out [`Admitted`]. Two services: [`check`] passes a [`Checked`](crate::call::Checked) call on to
//! [`admit`]. A call that is refused here was never started. A call that a rate limit or a policy refuses spawned no
//! actor either.

mod admit;
mod allow;
mod check;
mod limits;

pub(crate) use admit::Admit;
pub(crate) use allow::Allow;
pub(crate) use check::Check;
pub(crate) use limits::{per_definition, per_identity, per_peer, per_system};

use tower::util::BoxCloneSyncService;

use crate::call::{Admitted, Request};
use crate::error::Error;

/// The stage with the layers that it wears.
pub(crate) type CallerService = BoxCloneSyncService<Request, Admitted, Error>;
