//! Admit: takes a permit for a call, and spawns its actor when the call asks for that.
//!
//! In [`Checked`], out [`Admitted`]. Memory is bounded by the permits given out here: a permit is held from admission
//! until the call's answer leaves, also while the call is routed on.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;

use crate::call::{Admitted, Checked, Origin};
use crate::error::Error;
use crate::placement::{Mailboxes, overloaded};
use crate::registry::registration::Registrar;

/// The service; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admit {
    pub(crate) registrar: Registrar,
    pub(crate) mailboxes: Mailboxes,
    /// Effects of one actor that are not delivered, from which on it is not called.
    pub(crate) max_pending_effects: u32,
}

impl Admit {
    async fn admit(self, checked: Checked) -> Result<Admitted, Error> {
        let Checked { invocation, origin, entry, to_spawn } = checked;
        let timing = self.mailboxes.timing(&invocation);
        let entry = match to_spawn {
            None => entry,
            Some(id) => self.registrar.spawn_one(id).await?,
        };
        let is_effect = matches!(origin, Origin::Inside(_));
        if entry.pending_effects.is_full(self.max_pending_effects, is_effect) {
            let reason = format!("too many side effects of {} wait to be sent", entry.actor);
            return Err(overloaded("effects", reason));
        }
        let permit = if is_effect && self.mailboxes.is_closed() {
            None
        } else {
            Some(self.mailboxes.reserve(invocation.bytes(), &timing, &entry).await?)
        };
        Ok(Admitted { entry, invocation, timing, permit, effect: None, delivery: None })
    }
}

impl Service<Checked> for Admit {
    type Response = Admitted;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Admitted, Error>>;

    /// The permit depends on the size of the call: it is taken, or waited for, in [`call`](Service::call).
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, checked: Checked) -> Self::Future {
        Box::pin(self.clone().admit(checked))
    }
}
