//! Park: retry without holding a slot. A turn that failed before its action parks its actor's key, keeps its place in
//! the order and gives its worker's slot back until it is tried again (decision 4): after a delay, and when the budget of
//! the host or of the store that failed pays for it. Until then it stays parked, at most until its own deadline. A turn
//! that has to wait for the store is parked too, and granted again when it need not wait any more.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use metrics::counter;
use tidegate_pipeline::{Drain, Parked, Turn};
use tower::{Layer, Service};

use crate::blocked_on::RetryOf;
use crate::call::{Failed, ParkedWork, Placed};
use crate::error::Error;
use crate::metrics::{PARKED_TOTAL, RETRIES_TOTAL};
use crate::retry_budget::{RetryBudget, RetryBudgets};

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

impl ParkLayer {
    /// Ends a failed turn, or tries it again after a delay. Its key stays parked meanwhile.
    async fn retry(self, failed: Box<Failed>, paid: Option<Paid>, parked: Parked<Placed>) {
        let Some(mut failed) = self.ended(failed, paid) else { return drop(parked) };
        let of = match &failed.error {
            Error::Host(_) => RetryOf::Host,
            _ => RetryOf::Store,
        };
        failed.placed.note_parked(Some(of));
        counter!(PARKED_TOTAL, "reason" => of.label()).increment(1);
        let budget = self.budgets.of(&failed.error, failed.placed.host_limit);
        let is_of_host = matches!(failed.error, Error::Host(_));
        let goes_elsewhere = is_of_host && failed.placed.go_elsewhere();
        let hosted = failed.placed.entry.spec().hosted;
        if goes_elsewhere || is_of_host && hosted.is_away() {
            // The turns of a host that is away get no permit until it is back. This one stays the first of its actor.
            let refusal = hosted.refusal().filter(|_| !failed.placed.task.is_patient());
            let ends = failed.placed.cancelled().or(refusal);
            // A caller that has waited for a connection past the time to start waits for this outcome, not for its deadline.
            if ends.is_some() || failed.placed.task.late_after().is_some() {
                failed.error = ends.unwrap_or(failed.error);
                drop(parked);
                return failed.finish();
            }
            failed.placed.keep_host();
            return parked.resume(failed.placed);
        }
        let is_due = failed.placed.wait_for_retry(&budget).await;
        if let Some(cancelled) = failed.placed.cancelled() {
            failed.error = cancelled;
        } else if is_due {
            counter!(RETRIES_TOTAL, "reason" => of.label()).increment(1);
            return resume(parked, failed.placed);
        }
        drop(parked);
        failed.finish();
    }

    /// Ends a failed turn, or returns it when it may be tried again.
    fn ended(&self, mut failed: Box<Failed>, paid: Option<Paid>) -> Option<Box<Failed>> {
        // The turn takes another place when it is granted again.
        failed.placed.place = None;
        if !failed.may_be_parked {
            refund(paid);
            failed.finish();
            return None;
        }
        let budget = self.budgets.of(&failed.error, failed.placed.host_limit);
        // The retry was paid for one host or store, and this failure is of another: the first one works again.
        refund(paid.filter(|paid| !Arc::ptr_eq(&budget, paid)));
        Some(failed)
    }

    /// Waits for what a turn needs, with its key parked.
    async fn wait(self, work: ParkedWork, paid: Option<Paid>, parked: Parked<Placed>) {
        match work.await {
            Ok(Some(mut placed)) => match placed.cancelled() {
                None => {
                    placed.retries.paid = paid;
                    resume(parked, placed);
                }
                Some(cancelled) => {
                    drop(parked);
                    refund(paid);
                    placed.fail(cancelled);
                }
            },
            Ok(None) => {
                drop(parked);
                refund(paid);
            }
            Err(failed) => self.retry(failed, paid, parked).await,
        }
    }
}

/// What a retry was paid from.
type Paid = Arc<RetryBudget>;

fn refund(paid: Option<Paid>) {
    if let Some(paid) = paid {
        paid.refund();
    }
}

fn resume(parked: Parked<Placed>, mut placed: Placed) {
    // The host may have moved meanwhile.
    placed.keep_host();
    parked.resume(placed);
}

impl<S> Service<Turn<Placed>> for Park<S>
where
    S: Service<Placed, Response = Option<ParkedWork>, Error = Box<Failed>>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // `poll_ready` of a path never fails: there is no turn to carry back.
        self.path.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, turn: Turn<Placed>) -> Self::Future {
        let (mut placed, hold) = turn.into_parts();
        let paid = placed.retries.paid.take();
        let layer = self.layer.clone();
        if placed.retries.is_first() {
            layer.budgets.host_called(placed.host_limit);
        } else {
            placed.note_parked(None);
        }
        let turn = self.path.call(placed);
        Box::pin(async move {
            let tasks = layer.tasks.clone();
            // Another task waits: others need this worker's slot.
            match turn.await {
                Ok(None) => refund(paid),
                Ok(Some(work)) => {
                    let parked = hold.park();
                    counter!(PARKED_TOTAL, "reason" => "load").increment(1);
                    tasks.spawn(layer.wait(work, paid, parked));
                }
                Err(failed) if failed.may_be_parked => {
                    let parked = hold.park();
                    tasks.spawn(layer.retry(failed, paid, parked));
                }
                Err(failed) => {
                    drop(hold);
                    layer.ended(failed, paid);
                }
            }
            Ok(())
        })
    }
}
