//! Respawn: a call that names its actor's definition finds the actor deleted and spawns it again.
//!
//! The key stays parked meanwhile: the call remains the next one of its actor, and the worker's slot is free (I6).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tidegate_pipeline::{Drain, Hold, Turn};
use tower::{Layer, Service};
use tracing::debug;

use crate::blocked_on::RetryOf;
use crate::call::Placed;
use crate::error::Error;
use crate::ports::StoreError;
use crate::registry::registration::Registrar;
use crate::retry_budget::RetryBudgets;

/// Spawns deleted actors again for the calls that ask for it; every other turn goes on to the service inside.
#[derive(Debug, Clone)]
pub(crate) struct RespawnLayer {
    /// Spawns them.
    pub(crate) registrar: Registrar,
    /// Where it does so.
    pub(crate) tasks: Drain,
    /// What pays for retries.
    pub(crate) budgets: Arc<RetryBudgets>,
}

/// See [`RespawnLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Respawn<S> {
    inner: S,
    layer: RespawnLayer,
}

impl<S> Layer<S> for RespawnLayer {
    type Service = Respawn<S>;

    fn layer(&self, inner: S) -> Respawn<S> {
        Respawn { inner, layer: self.clone() }
    }
}

impl RespawnLayer {
    fn spawn_again(&self, mut placed: Placed, hold: Hold<Placed>) {
        placed.place = None;
        placed.note_parked(Some(RetryOf::Spawn));
        let parked = hold.park();
        let (registrar, budget) = (self.registrar.clone(), self.budgets.store.clone());
        self.tasks.spawn(async move {
            let failed = loop {
                match registrar.spawn_again(&placed.entry).await {
                    Ok(entry) => {
                        placed.entry = entry;
                        placed.keep_host();
                        return parked.resume(placed);
                    }
                    Err(error) => {
                        debug!(actor = %placed.entry.actor, %error, "not spawned again yet");
                        if !may_pass(&error) || !placed.wait_for_retry(&budget).await {
                            break error;
                        }
                    }
                }
            };
            drop(parked);
            let cancelled = placed.cancelled();
            placed.fail(cancelled.unwrap_or(failed));
        });
    }
}

/// Whether another try may succeed.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Overloaded { .. } | Error::Store(StoreError::Unavailable(_)))
}

impl<S> Service<Turn<Placed>> for Respawn<S>
where
    S: Service<Turn<Placed>, Response = (), Error = Infallible>,
{
    type Response = ();
    type Error = Infallible;
    type Future = Either<Ready<Result<(), Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut turn: Turn<Placed>) -> Self::Future {
        if turn.event_mut().take_spawn() {
            let (placed, hold) = turn.into_parts();
            self.layer.spawn_again(placed, hold);
            return Either::Left(ready(Ok(())));
        }
        Either::Right(self.inner.call(turn))
    }
}
