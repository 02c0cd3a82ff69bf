//! Park: retry without holding a slot. A turn that failed before its action parks its actor's key, keeps its place in
//! the order and gives its worker's slot back until it is tried again (decision 4).

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tidegate_pipeline::{Drain, Turn};
use tokio::time::sleep;
use tower::{Layer, Service};

use crate::call::{Failed, Placed};

/// Makes a service of turns from a service of what the mailbox holds.
#[derive(Debug, Clone)]
pub(crate) struct ParkLayer {
    /// Where parked turns wait.
    pub(crate) tasks: Drain,
}

/// See [`ParkLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Park<S> {
    path: S,
    tasks: Drain,
}

impl<S> Layer<S> for ParkLayer {
    type Service = Park<S>;

    fn layer(&self, path: S) -> Park<S> {
        Park { path, tasks: self.tasks.clone() }
    }
}

impl<S> Service<Turn<Placed>> for Park<S>
where
    S: Service<Placed, Response = (), Error = Box<Failed>>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A path is never ready with a turn to carry back.
        self.path.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, turn: Turn<Placed>) -> Self::Future {
        let (placed, hold) = turn.into_parts();
        let turn = self.path.call(placed);
        let tasks = self.tasks.clone();
        Box::pin(async move {
            let Err(mut failed) = turn.await else { return Ok(()) };
            let pause = if failed.may_be_parked { failed.placed.retries.next() } else { None };
            let Some(pause) = pause else {
                drop(hold);
                failed.finish();
                return Ok(());
            };
            let parked = hold.park();
            // Another task sleeps: this one's slot among the worker's is needed by others.
            tasks.spawn(async move {
                sleep(pause).await;
                let mut placed = failed.placed;
                if placed.host_limit != 0 {
                    // The host may have moved meanwhile.
                    placed.host_limit = placed.entry.spec().hosted.host_limit;
                }
                parked.resume(placed);
            });
            Ok(())
        })
    }
}
