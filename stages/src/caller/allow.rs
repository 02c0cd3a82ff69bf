//! Allow: refuses a call that the access policies do not allow.
//!
//! It comes before the actor is looked for: who may not call it does not learn whether it exists.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service};

use crate::access::{CallKind, CurrentPolicies, Subject};
use crate::call::{Admitted, Origin, Request};
use crate::error::Error;

/// Mounts [`Allow`] on a service that checks.
#[derive(Debug, Clone)]
pub(crate) struct AllowLayer {
    /// What is allowed.
    pub(crate) policies: CurrentPolicies,
}

/// The service; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Allow<S> {
    inner: S,
    layer: AllowLayer,
}

impl<S> Layer<S> for AllowLayer {
    type Service = Allow<S>;

    fn layer(&self, inner: S) -> Allow<S> {
        Allow { inner, layer: self.clone() }
    }
}

impl<S> Service<Request> for Allow<S>
where
    S: Service<Request, Response = Admitted, Error = Error>,
{
    type Response = Admitted;
    type Error = Error;
    type Future = Either<Ready<Result<Admitted, Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (subject, kind) = match &request.origin {
            Origin::Outside => (Subject::Client(&request.invocation.identity), CallKind::Invoke),
            Origin::Inside(actor) => (Subject::Actor(actor), CallKind::Effect),
        };
        match self.layer.policies.check_invocation(subject, kind, &request.invocation) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }
}
