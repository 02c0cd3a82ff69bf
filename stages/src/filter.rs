//! Filter: a layer that refuses some requests before anything is done. As `tower::filter`, whose errors have no type.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service};

use crate::error::Error;

/// Decides which requests pass.
pub(crate) trait Predicate<Request> {
    /// What the next service gets of a request.
    type Passed;

    /// Returns the request for the next service.
    ///
    /// # Errors
    /// Why the request is refused.
    fn check(&self, request: Request) -> Result<Self::Passed, Error>;
}

/// A predicate that is cheap to clone.
impl<Request, P: Predicate<Request>> Predicate<Request> for Arc<P> {
    type Passed = P::Passed;

    fn check(&self, request: Request) -> Result<P::Passed, Error> {
        (**self).check(request)
    }
}

/// Mounts [`Filter`] on a service.
#[derive(Debug, Clone)]
pub(crate) struct FilterLayer<P>(pub(crate) P);

/// The service; see the [module](self). Cheap to clone where its parts are.
#[derive(Debug, Clone)]
pub(crate) struct Filter<S, P> {
    inner: S,
    predicate: P,
}

impl<S, P: Clone> Layer<S> for FilterLayer<P> {
    type Service = Filter<S, P>;

    fn layer(&self, inner: S) -> Filter<S, P> {
        Filter { inner, predicate: self.0.clone() }
    }
}

impl<R, S, P> Service<R> for Filter<S, P>
where
    P: Predicate<R>,
    S: Service<P::Passed, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Either<Ready<Result<S::Response, Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.predicate.check(request) {
            Ok(passed) => Either::Right(self.inner.call(passed)),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }
}
