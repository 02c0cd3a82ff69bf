//! Path: one turn of an actor, from its mailbox to the checkpoint, stage by stage.
//!
//! A turn holds its actor's key and a slot of the workers' demand, so it must not wait for other turns or for the store (I6):
//! it returns such work as [`ParkedWork`]. The key is free again when the response is applied in memory and the plan is
//! handed in. The reply follows when the checkpoint has made the change durable.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use tower::{Service, ServiceExt};

use crate::call::{
    Activated, BoxPlanned, Failed, Invoked, LookedUp, ParkedWork, Placed, StageResult,
};
use crate::error::Error;
use crate::ports::HostError;
use crate::traces::Mark;

/// The stages of the path in their order; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Path<L, I, S, C, M> {
    pub(crate) lookup: L,
    pub(crate) invoke: I,
    pub(crate) side_effects: S,
    /// Where plans are handed in.
    pub(crate) checkpoint: C,
    /// Turns that activate nothing and run no action.
    pub(crate) maintenance: M,
}

impl<L, I, S, C, M> Service<Placed> for Path<L, I, S, C, M>
where
    L: Service<Placed, Response = LookedUp, Error = Box<Failed>, Future: Send>
        + Clone
        + Send
        + 'static,
    I: Service<Box<Activated>, Response = Invoked, Error = Box<Failed>, Future: Send>
        + Clone
        + Send
        + 'static,
    S: Service<Invoked, Response = BoxPlanned, Error = Box<Failed>, Future: Send>
        + Clone
        + Send
        + 'static,
    C: Service<BoxPlanned, Response = (), Error = Box<Failed>, Future: Send>
        + Clone
        + Send
        + 'static,
    M: Service<Placed, Response = Option<ParkedWork>, Error = Box<Failed>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    /// What has to be waited for with the key parked; `None` when the turn is over.
    type Response = Option<ParkedWork>;
    type Error = Box<Failed>;
    type Future = BoxFuture<'static, StageResult<Option<ParkedWork>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<StageResult<()>> {
        self.lookup.poll_ready(cx)
    }

    fn call(&mut self, placed: Placed) -> Self::Future {
        if placed.task.is_maintenance() {
            return Box::pin(self.maintenance.clone().oneshot(placed));
        }
        let path = self.clone();
        if placed.task.needs_revisions() {
            // It needs the store and no host, so all of it runs while the key is parked.
            let work: ParkedWork = Box::pin(async move {
                let mut next = Some(placed);
                while let Some(placed) = next {
                    let looked_up = path.lookup.clone().oneshot(placed).await?;
                    next = match path.clone().turn(looked_up).await? {
                        Some(work) => work.await?,
                        None => None,
                    };
                }
                Ok(None)
            });
            return Box::pin(ready(Ok(Some(work))));
        }
        placed.mark(Mark::Granted);
        let looking_up = self.lookup.call(placed);
        Box::pin(async move { path.turn(looking_up.await?).await })
    }
}

impl<L, I, S, C, M> Path<L, I, S, C, M>
where
    L: Service<Placed, Response = LookedUp, Error = Box<Failed>> + Clone,
    I: Service<Box<Activated>, Response = Invoked, Error = Box<Failed>> + Clone,
    S: Service<Invoked, Response = BoxPlanned, Error = Box<Failed>> + Clone,
    C: Service<BoxPlanned, Response = (), Error = Box<Failed>> + Clone,
{
    /// The turn of an actor that was looked up.
    async fn turn(self, looked_up: LookedUp) -> StageResult<Option<ParkedWork>> {
        let mut activated = match looked_up {
            LookedUp::Here(activated) => activated,
            LookedUp::Loading(work) => return Ok(Some(work)),
        };
        let Path { lookup, invoke, side_effects, checkpoint, .. } = self;
        let rest = (invoke, side_effects, checkpoint);
        if activated.awaits_init() {
            // Boxed: few turns need it.
            activated = match Box::pin(after_init(lookup, rest.clone(), activated)).await? {
                LookedUp::Here(activated) => activated,
                LookedUp::Loading(work) => return Ok(Some(work)),
            };
        }
        from_invoke(rest, activated).await?;
        Ok(None)
    }
}

/// Has the init action run before the turn that needs it: it passes the stages as a turn of its own. While the host cannot be
/// reached, a stored state is told without it; the next turn that does more runs it.
async fn after_init<L, I, S, C>(
    lookup: L,
    rest: (I, S, C),
    activated: Box<Activated>,
) -> StageResult<LookedUp>
where
    L: Service<Placed, Response = LookedUp, Error = Box<Failed>>,
    I: Service<Box<Activated>, Response = Invoked, Error = Box<Failed>>,
    S: Service<Invoked, Response = BoxPlanned, Error = Box<Failed>>,
    C: Service<BoxPlanned, Response = (), Error = Box<Failed>>,
{
    let may_go_without = activated.tells_stored_state();
    if activated.host_limit == 0 {
        let hosted = &activated.actor.spec.hosted;
        if !hosted.is_away() {
            // It was queued while its host was away: now it waits for a permit of the host.
            let mut placed = activated.release();
            placed.take_host();
            // Others need it meanwhile.
            placed.place = None;
            return Ok(LookedUp::Loading(Box::pin(ready(Ok(Some(placed))))));
        }
        if may_go_without {
            return Ok(LookedUp::Here(activated));
        }
        let (address, away_for) =
            (hosted.address().to_string(), hosted.host.reachability.away_for());
        let reason = format!("it has accepted no connection for {away_for:.1?}");
        return Err(activated.fail(|mut placed| {
            placed.take_host();
            Failed::retryable(placed, HostError::Connect { address, reason })
        }));
    }
    let (init, placed) = activated.init_first();
    let is_unsent = match from_invoke(rest, init).await {
        Ok(()) => false,
        Err(failed) if may_go_without && failed.is_unsent() => true,
        Err(failed) => return Err(failed.on_behalf_of(placed)),
    };
    match lookup.oneshot(placed).await? {
        LookedUp::Here(activated) if is_unsent && activated.tells_stored_state() => {
            Ok(LookedUp::Here(activated))
        }
        LookedUp::Here(activated) if activated.awaits_init() => {
            let reason = "the actor was loaded again while its init action ran".into();
            let error = Error::Overloaded { reason, retry_after: Duration::from_secs(1) };
            Err(activated.fail(|placed| Failed::retryable(placed, error)))
        }
        looked_up => Ok(looked_up),
    }
}

/// The path from an activated actor on.
async fn from_invoke<I, S, C>(
    (invoke, side_effects, checkpoint): (I, S, C),
    activated: Box<Activated>,
) -> StageResult<()>
where
    I: Service<Box<Activated>, Response = Invoked, Error = Box<Failed>>,
    S: Service<Invoked, Response = BoxPlanned, Error = Box<Failed>>,
    C: Service<BoxPlanned, Response = (), Error = Box<Failed>>,
{
    activated.mark(Mark::Activated);
    let invoked = invoke.oneshot(activated).await?;
    invoked.activated.mark(Mark::Answered);
    let planned = side_effects.oneshot(invoked).await?;
    checkpoint.oneshot(planned).await
}
