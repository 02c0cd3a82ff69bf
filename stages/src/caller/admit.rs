//! Admit: takes a permit for a call, and spawns its actor when the call asks for that.
//!
//! In [`Checked`], out [`Admitted`]. Memory is bounded by the permits given out here: a permit is held from admission
//! until the call's answer leaves, also while the call is routed on.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either, Ready, ready};
use tidegate_pipeline::Permit;
use tower::Service;

use crate::call::{Admitted, Checked, Origin};
use crate::error::Error;
use crate::placement::{Mailboxes, overloaded};
use crate::registry::registration::Registrar;
use crate::reply::Timing;
use crate::traces::{CallOrigin, Mark};

/// The service; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admit(pub(crate) Arc<AdmitInner>);

/// See [`Admit`].
#[derive(Debug)]
pub(crate) struct AdmitInner {
    pub(crate) registrar: Registrar,
    pub(crate) mailboxes: Mailboxes,
    /// Effects of one actor that are not delivered, from which on it is not called.
    pub(crate) max_pending_effects: u32,
}

impl AdmitInner {
    /// Takes the permit of a usual call that need not wait.
    fn permit_now(&self, checked: &Checked) -> Option<Permit> {
        let Checked { invocation, origin, entry, to_spawn } = checked;
        let is_usual = *origin == Origin::Outside
            && to_spawn.is_none()
            && !invocation.pooled
            && !entry.pending_effects.is_full(self.max_pending_effects, false);
        if is_usual { self.mailboxes.reserve_now(invocation.bytes(), entry) } else { None }
    }

    async fn admit(&self, checked: Checked, timing: Timing) -> Result<Admitted, Error> {
        let Checked { invocation, origin, entry, to_spawn } = checked;
        let entry = match to_spawn {
            None => entry,
            Some(id) => self.registrar.spawn_one(id).await?,
        };
        let is_effect = matches!(origin, Origin::Inside(_));
        if entry.pending_effects.is_full(self.max_pending_effects, is_effect) {
            let reason = format!("too many side effects of {} wait to be sent", entry.actor);
            return Err(overloaded("effects", reason));
        }
        let member = if invocation.pooled { self.registrar.member(&entry) } else { None };
        if let Some((member, _)) = &member
            && entry.is_paused()
            && !member.is_paused()
        {
            // It was started after the pause of its pool began.
            self.registrar.while_paused(&entry, || {
                member.set_paused(self.mailboxes.queue.pause(&member.mailbox).is_ok());
            });
        }
        let (entry, load) = member.map_or((entry, None), |(member, load)| (member, Some(load)));
        let permit = if is_effect && self.mailboxes.is_closed() {
            None
        } else {
            let permit = self.mailboxes.reserve(invocation.bytes(), &timing, &entry).await?;
            timing.mark(Mark::Reserved);
            Some(permit)
        };
        Ok(Admitted { entry, invocation, timing, permit, effect: None, delivery: None, load })
    }
}

impl Service<Checked> for Admit {
    type Response = Admitted;
    type Error = Error;
    type Future =
        Either<Ready<Result<Admitted, Error>>, BoxFuture<'static, Result<Admitted, Error>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, checked: Checked) -> Self::Future {
        let origin = match &checked.origin {
            Origin::Outside => CallOrigin::Client,
            Origin::Inside(_) => CallOrigin::Effect,
            Origin::Due => CallOrigin::Due,
        };
        let timing = self.0.mailboxes.timing(&checked.invocation, origin);
        if let Some(permit) = self.0.permit_now(&checked) {
            let Checked { invocation, entry, .. } = checked;
            return Either::Left(ready(Ok(Admitted {
                entry,
                invocation,
                timing,
                permit: Some(permit),
                effect: None,
                delivery: None,
                load: None,
            })));
        }
        let stage = self.0.clone();
        Either::Right(Box::pin(async move { stage.admit(checked, timing).await }))
    }
}
