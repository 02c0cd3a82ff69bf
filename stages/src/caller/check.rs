//! Check: refuses a call that makes no sense, and finds its definition. Changes nothing.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service};

use crate::actor::check_name;
use crate::call::{Admitted, Checked, Request};
use crate::error::Error;
use crate::ports::Clock;
use crate::registry::registration::Registrar;

/// Mounts [`Check`] on a service that admits.
#[derive(Debug, Clone)]
pub(crate) struct CheckLayer {
    /// Knows who is registered.
    pub(crate) registrar: Registrar,
    /// Says whether a call is scheduled for later.
    pub(crate) clock: Arc<dyn Clock>,
}

/// The service; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Check<S> {
    inner: S,
    layer: CheckLayer,
}

impl<S> Layer<S> for CheckLayer {
    type Service = Check<S>;

    fn layer(&self, inner: S) -> Check<S> {
        Check { inner, layer: self.clone() }
    }
}

impl CheckLayer {
    /// # Errors
    /// When a name is not allowed, the actor, its definition or the action is unknown, or the call needs what is not
    /// built yet.
    fn check(&self, request: Request) -> Result<Checked, Error> {
        let Request { invocation, origin } = request;
        let id = &invocation.actor;
        for (part, name) in [("actor.id.name", &id.name), ("system.name", &id.system)] {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        if invocation.pooled {
            return Err(Error::Unsupported("pooled invocations are not built yet".into()));
        }
        if invocation.is_due_after(self.clock.now()) {
            return Err(Error::Unsupported("scheduled invocations are not built yet".into()));
        }
        let (entry, to_spawn) = self.registrar.find(&invocation)?;
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
        Ok(Checked { invocation, origin, entry, to_spawn })
    }
}

impl<S> Service<Request> for Check<S>
where
    S: Service<Checked, Response = Admitted, Error = Error>,
{
    type Response = Admitted;
    type Error = Error;
    type Future = Either<Ready<Result<Admitted, Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.layer.check(request) {
            Ok(checked) => Either::Right(self.inner.call(checked)),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }
}
