//! Host breaker: keeps calls from a host that accepts no connections (decision 28).
//!
//! Two layers. Invoke wears [`HostBreakerLayer`], which notes whether calls reach their host. While a host is away its turns
//! get no permit: they wait in their mailboxes, and a turn that was refused stays the first of its actor. One task per outage
//! [watches](watch) for the host's return. The caller wears [`RefuseAway`], which refuses synchronous calls at once
//! after the grace. Calls that need no host (`get` of an actor that has a state in the store, or no init action) go on.

mod watch;

pub(crate) use watch::{HostBreakers, Patience};

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower::{Layer, Service};

use crate::call::{Activated, Checked, Failed, Invoked, StageResult, Task};
use crate::error::Error;
use crate::filter::Predicate;

/// Notes which hosts accept calls.
#[derive(Debug, Clone)]
pub(crate) struct HostBreakerLayer {
    /// Where outages are watched.
    pub(crate) breakers: Arc<HostBreakers>,
}

/// See [`HostBreakerLayer`].
#[derive(Debug, Clone)]
pub(crate) struct HostBreaker<S> {
    invoke: S,
    breakers: Arc<HostBreakers>,
}

/// The future of an invocation; it notes the outcome.
#[derive(Debug)]
pub(crate) struct Noted<F> {
    invoking: F,
    breakers: Arc<HostBreakers>,
}

impl<S> Layer<S> for HostBreakerLayer {
    type Service = HostBreaker<S>;

    fn layer(&self, invoke: S) -> HostBreaker<S> {
        HostBreaker { invoke, breakers: self.breakers.clone() }
    }
}

impl<S> Service<Box<Activated>> for HostBreaker<S>
where
    S: Service<Box<Activated>, Response = Invoked, Error = Box<Failed>, Future: Unpin>,
{
    type Response = Invoked;
    type Error = Box<Failed>;
    type Future = Noted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Box<Failed>>> {
        self.invoke.poll_ready(cx)
    }

    fn call(&mut self, activated: Box<Activated>) -> Self::Future {
        Noted { invoking: self.invoke.call(activated), breakers: self.breakers.clone() }
    }
}

impl<F: Future<Output = StageResult<Invoked>> + Unpin> Future for Noted<F> {
    type Output = StageResult<Invoked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StageResult<Invoked>> {
        let result = ready!(Pin::new(&mut self.invoking).poll(cx));
        match &result {
            Ok(invoked) if has_called(invoked) => {
                invoked.activated.actor.spec.hosted.host.reachability.reached();
            }
            Ok(_) => {}
            Err(failed) => self.breakers.note(failed),
        }
        Poll::Ready(result)
    }
}

/// Whether the host was called, not the proxy's own default action.
fn has_called(Invoked { activated, response }: &Invoked) -> bool {
    match &activated.task {
        Task::Call(call) => {
            // A recognised effect has no response.
            let answered = call.effect.as_ref().is_some_and(|effect| effect.failed.is_some());
            let definition = &activated.actor.spec.hosted.definition;
            (response.is_some() || answered) && !definition.is_default_action(&call.action)
        }
        Task::Init(_) => response.is_some(),
        _ => false,
    }
}

/// Refuses synchronous calls of hosts that are away for too long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefuseAway;

impl Predicate<Checked> for RefuseAway {
    type Passed = Checked;

    fn check(&self, checked: Checked) -> Result<Checked, Error> {
        if checked.invocation.is_awaited() {
            let refusal = checked.entry.with_hosted(|hosted| {
                let needs_host = hosted.needs_host(&checked.invocation.action);
                if needs_host { hosted.refusal() } else { None }
            });
            if let Some(error) = refusal {
                return Err(error);
            }
        }
        Ok(checked)
    }
}
