//! Door: a producer's handle as a tower service, whose readiness is room in the buffer.
//!
//! `poll_ready` takes an event's place, `call` spends it and takes the bytes. A full buffer makes a
//! door of [`Full::Wait`](crate::Full::Wait) unready for as long as that says; after that, and at
//! once with [`Full::Shed`](crate::Full::Shed), the door is ready and the *call* is refused: an error
//! of `poll_ready` would mean, to tower, that the service is broken for good.

use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll, ready as try_ready};

use futures_util::future::{BoxFuture, Either};
use tower::Service;

use crate::buffer::{Permit, Refused};
use crate::dispatcher::Dispatcher;
use crate::producer::{Call, CallError, Producer};

/// An event's place, on its way from `poll_ready` to `call`.
enum Place {
    None,
    Waiting(BoxFuture<'static, Result<Permit, Refused>>),
    Taken(Result<Permit, Refused>),
}

impl Place {
    fn poll<T: Send + 'static, D: Dispatcher<T>>(
        &mut self,
        producer: &Producer<T, D>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            match self {
                Place::Taken(_) => return Poll::Ready(()),
                Place::Waiting(place) => {
                    *self = Place::Taken(try_ready!(place.as_mut().poll(cx)));
                }
                Place::None => match producer.cell.room.try_reserve(0) {
                    Err(Refused::Full) => {
                        let producer = producer.clone();
                        *self = Place::Waiting(Box::pin(async move { producer.reserve(0).await }));
                    }
                    taken => *self = Place::Taken(taken),
                },
            }
        }
    }

    /// The place, with room for bytes too if that is there at once.
    fn spend<T: Send + 'static, D: Dispatcher<T>>(
        &mut self,
        producer: &Producer<T, D>,
        bytes: usize,
    ) -> Result<Permit, Spent> {
        match std::mem::replace(self, Place::None) {
            Place::Taken(Err(reason)) => Err(Spent::Refused(reason)),
            Place::Taken(Ok(place)) => match place.widen(bytes) {
                Err(Refused::Full) => Err(Spent::BytesMissing),
                Err(reason) => Err(Spent::Refused(reason)),
                Ok(permit) => Ok(permit),
            },
            Place::None | Place::Waiting(_) => producer.try_reserve(bytes).map_err(Spent::Refused),
        }
    }
}

enum Spent {
    Refused(Refused),
    /// There is a place, but not enough bytes: the whole place is waited for again, as the buffer says.
    BytesMissing,
}

/// Casts events; made by [`Producer::cast_door`].
pub struct CastDoor<T: Send + 'static, D: Dispatcher<T>> {
    producer: Producer<T, D>,
    weigh: fn(&T) -> usize,
    place: Place,
}

/// Future of a [`CastDoor`]: ready at once, unless the buffer lacks bytes and may be waited for.
pub type Casting = Either<Ready<Result<(), Refused>>, BoxFuture<'static, Result<(), Refused>>>;

impl<T: Send + 'static, D: Dispatcher<T>> CastDoor<T, D> {
    pub(crate) fn new(producer: Producer<T, D>, weigh: fn(&T) -> usize) -> CastDoor<T, D> {
        CastDoor { producer, weigh, place: Place::None }
    }

    fn cast(&mut self, event: T) -> Casting {
        let bytes = (self.weigh)(&event);
        let put = |producer: &Producer<T, D>, event, permit| {
            producer.cast(event, permit).map_err(|rejected| rejected.reason)
        };
        match self.place.spend(&self.producer, bytes) {
            Ok(permit) => Either::Left(ready(put(&self.producer, event, permit))),
            Err(Spent::Refused(reason)) => Either::Left(ready(Err(reason))),
            Err(Spent::BytesMissing) => {
                let producer = self.producer.clone();
                Either::Right(Box::pin(async move {
                    let permit = producer.reserve(bytes).await?;
                    put(&producer, event, permit)
                }))
            }
        }
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Service<T> for CastDoor<T, D> {
    type Response = ();
    type Error = Refused;
    type Future = Casting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.place.poll(&self.producer, cx).map(Ok)
    }

    fn call(&mut self, event: T) -> Casting {
        self.cast(event)
    }
}

/// A clone takes a place of its own.
impl<T: Send + 'static, D: Dispatcher<T>> Clone for CastDoor<T, D> {
    fn clone(&self) -> CastDoor<T, D> {
        CastDoor::new(self.producer.clone(), self.weigh)
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> fmt::Debug for CastDoor<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CastDoor").field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// Calls: casts a request with a reply slot and waits for the answer; made by [`Producer::call_door`].
pub struct CallDoor<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> {
    producer: Producer<Call<Q, R>, D>,
    weigh: fn(&Q) -> usize,
    place: Place,
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> CallDoor<Q, R, D> {
    pub(crate) fn new(
        producer: Producer<Call<Q, R>, D>,
        weigh: fn(&Q) -> usize,
    ) -> CallDoor<Q, R, D> {
        CallDoor { producer, weigh, place: Place::None }
    }
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> Service<Q>
    for CallDoor<Q, R, D>
{
    type Response = R;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<R, CallError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.place.poll(&self.producer, cx).map(Ok)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let bytes = (self.weigh)(&request);
        let permit = self.place.spend(&self.producer, bytes);
        let producer = self.producer.clone();
        Box::pin(async move {
            let permit = match permit {
                Ok(permit) => permit,
                Err(Spent::Refused(reason)) => return Err(reason.into()),
                Err(Spent::BytesMissing) => producer.reserve(bytes).await?,
            };
            producer.call(request, permit).await
        })
    }
}

/// A clone takes a place of its own.
impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> Clone for CallDoor<Q, R, D> {
    fn clone(&self) -> CallDoor<Q, R, D> {
        CallDoor::new(self.producer.clone(), self.weigh)
    }
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> fmt::Debug
    for CallDoor<Q, R, D>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallDoor").field("producer", &self.producer).finish_non_exhaustive()
    }
}
