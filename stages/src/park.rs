//! Park: retry without holding a slot. A turn that failed before its action parks its actor's key, keeps its place in
//! the order and gives its worker's slot back until it is tried again (decision 4): after a delay, and when the budget of
//! the host or of the store that failed pays for it. Until then it stays parked, at most until its own deadline.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tidegate_pipeline::{Drain, Turn};
use tower::{Layer, Service};

use crate::call::{Failed, Placed};
use crate::retry_budget::RetryBudgets;

/// Makes a service of turns from a service of what the mailbox holds.
#[derive(Debug, Clone)]
pub(crate) struct ParkLayer {
    /// Where parked turns wait.
    pub(crate) tasks: Drain,
    /// What pays for retries.
    pub(crate) budgets: Arc<RetryBudgets>,
}

/// See [`ParkLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Park<S> {
    path: S,
    layer: ParkLayer,
}

impl<S> Layer<S> for ParkLayer {
    type Service = Park<S>;

    fn layer(&self, path: S) -> Park<S> {
        Park { path, layer: self.clone() }
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
        let (mut placed, hold) = turn.into_parts();
        let paid = placed.retries.paid.take();
        let ParkLayer { tasks, budgets } = self.layer.clone();
        if placed.retries.is_first() {
            budgets.host_called(placed.host_limit);
        }
        let turn = self.path.call(placed);
        Box::pin(async move {
            let failed = turn.await.err();
            let parked = failed.as_ref().filter(|failed| failed.may_be_parked);
            let budget = parked.map(|failed| budgets.of(&failed.error, failed.placed.host_limit));
            // What a retry was paid for works again, unless it failed there once more.
            if let Some(paid) = paid
                && !budget.as_ref().is_some_and(|budget| Arc::ptr_eq(budget, &paid))
            {
                paid.refund();
            }
            let Some(mut failed) = failed else { return Ok(()) };
            let Some(budget) = budget else {
                drop(hold);
                failed.finish();
                return Ok(());
            };
            let parked = hold.park();
            // Another task waits: this one's slot among the worker's is needed by others.
            tasks.spawn(async move {
                if !failed.placed.wait_for_retry(&budget).await {
                    drop(parked);
                    return failed.finish();
                }
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
