//! Service: a producer's handle as a tower service, which is ready when the buffer has a free place.
//!
//! `poll_ready` takes the place of an event, `call` uses it and takes the bytes. With
//! [`Full::Wait`](crate::Full::Wait) the service of a full buffer is not ready until a place is free or
//! the time is over. After that time, and at once with [`Full::Shed`](crate::Full::Shed), the service
//! is ready and the *call* fails. An error of `poll_ready` would tell tower that the service is broken
//! for good.

use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll, ready as try_ready};

use futures_util::future::{BoxFuture, Either};
use tower::Service;

use crate::buffer::{Permit, Refused};
use crate::dispatcher::Dispatcher;
use crate::producer::{Call, CallError, Producer};

/// The place of the next event, which `poll_ready` takes for `call`.
enum Reservation {
    None,
    Waiting(BoxFuture<'static, Result<Permit, Refused>>),
    Taken(Result<Permit, Refused>),
}

impl Reservation {
    fn poll<T: Send + 'static, D: Dispatcher<T>>(
        &mut self,
        producer: &Producer<T, D>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            match self {
                Reservation::Taken(_) => return Poll::Ready(()),
                Reservation::Waiting(place) => {
                    *self = Reservation::Taken(try_ready!(place.as_mut().poll(cx)));
                }
                Reservation::None => match producer.shared.capacity.try_reserve(0, None) {
                    Err(Refused::Full) => {
                        let producer = producer.clone();
                        *self = Reservation::Waiting(Box::pin(
                            async move { producer.reserve(0).await },
                        ));
                    }
                    taken => *self = Reservation::Taken(taken),
                },
            }
        }
    }

    /// Uses the place and adds the bytes, if they are free now.
    fn spend<T: Send + 'static, D: Dispatcher<T>>(
        &mut self,
        producer: &Producer<T, D>,
        bytes: usize,
    ) -> Result<Permit, SpendError> {
        match std::mem::replace(self, Reservation::None) {
            Reservation::Taken(Err(reason)) => Err(SpendError::Refused(reason)),
            Reservation::Taken(Ok(place)) => match place.widen(bytes) {
                Err(Refused::Full) => Err(SpendError::BytesMissing),
                Err(reason) => Err(SpendError::Refused(reason)),
                Ok(permit) => Ok(permit),
            },
            Reservation::None | Reservation::Waiting(_) => {
                producer.try_reserve(bytes).map_err(SpendError::Refused)
            }
        }
    }
}

enum SpendError {
    Refused(Refused),
    /// There is a place, but too few bytes are free. The caller waits for a whole place, as the buffer says.
    BytesMissing,
}

/// Casts events. Made by [`Producer::cast_service`].
pub struct CastService<T: Send + 'static, D: Dispatcher<T>> {
    producer: Producer<T, D>,
    weigh: fn(&T) -> usize,
    reservation: Reservation,
}

/// The future of a [`CastService`]. It is ready at once, unless it waits for bytes of the buffer.
pub type CastFuture = Either<Ready<Result<(), Refused>>, BoxFuture<'static, Result<(), Refused>>>;

impl<T: Send + 'static, D: Dispatcher<T>> CastService<T, D> {
    pub(crate) fn new(producer: Producer<T, D>, weigh: fn(&T) -> usize) -> CastService<T, D> {
        CastService { producer, weigh, reservation: Reservation::None }
    }

    fn cast(&mut self, event: T) -> CastFuture {
        let bytes = (self.weigh)(&event);
        let put = |producer: &Producer<T, D>, event, permit| {
            producer.cast(event, permit).map_err(|rejected| rejected.reason)
        };
        match self.reservation.spend(&self.producer, bytes) {
            Ok(permit) => Either::Left(ready(put(&self.producer, event, permit))),
            Err(SpendError::Refused(reason)) => Either::Left(ready(Err(reason))),
            Err(SpendError::BytesMissing) => {
                let producer = self.producer.clone();
                Either::Right(Box::pin(async move {
                    let permit = producer.reserve(bytes).await?;
                    put(&producer, event, permit)
                }))
            }
        }
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Service<T> for CastService<T, D> {
    type Response = ();
    type Error = Refused;
    type Future = CastFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.reservation.poll(&self.producer, cx).map(Ok)
    }

    fn call(&mut self, event: T) -> CastFuture {
        self.cast(event)
    }
}

/// A clone takes its own place.
impl<T: Send + 'static, D: Dispatcher<T>> Clone for CastService<T, D> {
    fn clone(&self) -> CastService<T, D> {
        CastService::new(self.producer.clone(), self.weigh)
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> fmt::Debug for CastService<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CastService").field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// Makes calls and waits for their replies. Made by [`Producer::call_service`].
pub struct CallService<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> {
    producer: Producer<Call<Q, R>, D>,
    weigh: fn(&Q) -> usize,
    reservation: Reservation,
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> CallService<Q, R, D> {
    pub(crate) fn new(
        producer: Producer<Call<Q, R>, D>,
        weigh: fn(&Q) -> usize,
    ) -> CallService<Q, R, D> {
        CallService { producer, weigh, reservation: Reservation::None }
    }
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> Service<Q>
    for CallService<Q, R, D>
{
    type Response = R;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<R, CallError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.reservation.poll(&self.producer, cx).map(Ok)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let bytes = (self.weigh)(&request);
        let permit = self.reservation.spend(&self.producer, bytes);
        let producer = self.producer.clone();
        Box::pin(async move {
            let permit = match permit {
                Ok(permit) => permit,
                Err(SpendError::Refused(reason)) => return Err(reason.into()),
                Err(SpendError::BytesMissing) => producer.reserve(bytes).await?,
            };
            producer.call(request, permit).await
        })
    }
}

/// A clone takes its own place.
impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> Clone
    for CallService<Q, R, D>
{
    fn clone(&self) -> CallService<Q, R, D> {
        CallService::new(self.producer.clone(), self.weigh)
    }
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> fmt::Debug
    for CallService<Q, R, D>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallService").field("producer", &self.producer).finish_non_exhaustive()
    }
}
