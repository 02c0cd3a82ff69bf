//! Caller: checks a call, finds whom it is for, and admits or refuses it.
//!
//! In [`Request`], out [`Admitted`]. A call that is refused here was never started. Memory is bounded by the permits
//! given out here: a permit is held from admission until the call's answer leaves, also while the call is routed on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::actor::check_name;
use crate::call::{Admitted, Origin, Request};
use crate::error::Error;
use crate::invocation::Invocation;
use crate::placement::{Mailboxes, overloaded};
use crate::ports::Clock;
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;

/// The stage with the layers that it wears.
pub(crate) type CallerService = BoxCloneSyncService<Request, Admitted, Error>;

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    directory: Arc<Directory>,
    mailboxes: Mailboxes,
    clock: Arc<dyn Clock>,
    max_pending_effects: u32,
}

impl Caller {
    pub(crate) fn new(
        directory: Arc<Directory>,
        mailboxes: Mailboxes,
        clock: Arc<dyn Clock>,
        max_pending_effects: u32,
    ) -> Self {
        Self { directory, mailboxes, clock, max_pending_effects }
    }

    /// Checks a call and finds its actor, unless that was spawned for the call just now.
    ///
    /// # Errors
    /// When a name is not allowed, the actor or action is unknown, or the call needs what is not built yet.
    fn check(
        &self,
        invocation: &Invocation,
        spawned: Option<Arc<Entry>>,
    ) -> Result<Arc<Entry>, Error> {
        let id = &invocation.actor;
        for (part, name) in [("actor.id.name", &id.name), ("system.name", &id.system)] {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        if invocation.pooled {
            return Err(Error::Unsupported("pooled invocations are not built yet".into()));
        }
        let due_us = u64::try_from(invocation.scheduled_to).unwrap_or(0).saturating_mul(1000);
        if due_us > self.clock.now().0 {
            return Err(Error::Unsupported("scheduled invocations are not built yet".into()));
        }
        let entry = spawned.or_else(|| self.directory.find(&id.system, &id.name));
        let entry = entry.ok_or_else(|| Error::ActorNotFound {
            system: id.system.clone(),
            name: id.name.clone(),
        })?;
        let hosted = entry.spec().hosted;
        let definition = &hosted.definition;
        if definition.actions.is_empty() && definition.timers.is_empty() {
            let text =
                format!("Actor [{}] has registered no action: no call of it is allowed", id.name);
            return Err(Error::Forbidden(text));
        }
        if !definition.knows(&invocation.action) {
            let (actor, action) = (id.name.clone(), invocation.action.clone());
            return Err(Error::ActionNotFound { actor, action });
        }
        Ok(entry)
    }

    async fn admit(self, request: Request) -> Result<Admitted, Error> {
        let Request { invocation, spawned, origin } = request;
        let timing = self.mailboxes.timing(&invocation);
        let entry = self.check(&invocation, spawned)?;
        if origin == Origin::Outside
            && entry.pending_effects.load(Ordering::Relaxed) >= self.max_pending_effects
        {
            let reason = format!("too many side effects of {} wait to be sent", entry.actor);
            return Err(overloaded("effects", reason));
        }
        let permit = if origin == Origin::Inside && self.mailboxes.is_closed() {
            None
        } else {
            Some(self.mailboxes.reserve(invocation.bytes(), &timing, &entry.actor).await?)
        };
        Ok(Admitted { entry, invocation, timing, permit })
    }
}

impl Service<Request> for Caller {
    type Response = Admitted;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Admitted, Error>>;

    /// Room depends on the size of the call: it is taken, or waited for, in [`call`](Service::call).
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(self.clone().admit(request))
    }
}
