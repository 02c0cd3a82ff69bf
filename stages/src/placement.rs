//! Placement: decides where an admitted call runs, and queues it in its actor's mailbox.
//!
//! In [`Admitted`], queued [`Placed`]; out the reply to wait for. A mailbox is a queue per actor with one turn at a time,
//! first in first out. Every call that is queued here gets exactly one reply (I2).

mod one_node;
mod pending_reply;

pub(crate) use one_node::OneNode;
pub(crate) use pending_reply::PendingReply;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Ready, ready};
use metrics::counter;
use parking_lot::RwLock;
use tidegate_pipeline::alarm::Alarms;
use tidegate_pipeline::{EventId, KeyedProducer, Permit, Pushed, Refused, Rejected, WaitsFor};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;
use tower::Service;

use crate::actor::ActorRef;
use crate::call::{Admitted, Call, Placed, Question, Task};
use crate::error::Error;
use crate::invocation::{Invocation, Payload};
use crate::metrics::CALLS_REFUSED_TOTAL;
use crate::ports::{Location, Placement};
use crate::registry::entry::{Entry, Hosted};
use crate::reply::{Deadlines, Reply, Timing};
use crate::retries::Retries;
use crate::traces::{CallOrigin, FirstWait, Mark, Tracer};

/// How long a refused caller is asked to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Timers that are kept for the next calls: each keeps some memory of the connection that had it last, until it rings.
const KEPT_ALARMS: usize = 256;

/// The mailboxes of all actors, and the admission to them; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Mailboxes {
    pub(crate) queue: KeyedProducer<Placed>,
    placement: Arc<dyn Placement>,
    deadlines: Deadlines,
    is_closed: Arc<AtomicBool>,
    /// Read while an exempt turn is queued: whoever has seen that the mailboxes are open queues it before the pauses end.
    closing: Arc<RwLock<()>>,
    on_close: Arc<Notify>,
    /// Places of calls that wait for paused actors, in all.
    for_paused: Arc<Semaphore>,
    /// Timers of the deadlines.
    alarms: Arc<Alarms>,
    pub(crate) tracer: Tracer,
}

impl Mailboxes {
    pub(crate) fn new(
        queue: KeyedProducer<Placed>,
        placement: Arc<dyn Placement>,
        deadlines: Deadlines,
    ) -> Self {
        let for_paused = Arc::new(Semaphore::new(0));
        let alarms = Arc::new(Alarms::keeping(KEPT_ALARMS));
        Self {
            queue,
            placement,
            deadlines,
            is_closed: Arc::default(),
            closing: Arc::default(),
            on_close: Arc::default(),
            for_paused,
            alarms,
            tracer: Tracer::default(),
        }
    }

    /// At most so many calls wait for paused actors.
    #[must_use]
    pub(crate) fn with_places_for_paused(self, calls: usize) -> Self {
        Self { for_paused: Arc::new(Semaphore::new(calls)), ..self }
    }

    /// Calls are traced by this tracer.
    #[must_use]
    pub(crate) fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Refuses clients from now on; admitted calls go on. All pauses end: calls that wait for a paused actor are refused as
    /// not started.
    pub(crate) fn close(&self) {
        {
            let _nobody_queues = self.closing.write();
            self.is_closed.store(true, Ordering::Release);
        }
        self.on_close.notify_waiters();
        for placed in self.queue.close() {
            placed.fail(Error::Draining);
        }
    }

    /// Whether clients are refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Waits until clients are refused.
    pub(crate) async fn closed(&self) {
        let closed = self.on_close.notified();
        if !self.is_closed() {
            closed.await;
        }
    }

    /// The deadlines of calls that have none of their own.
    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Starts a call's clock, and its trace. Only a call of a client has a bound of its own: nobody waits for the others, and an
    /// action that outlasted such a bound would be run again.
    pub(crate) fn timing(&self, invocation: &Invocation, origin: CallOrigin) -> Timing {
        let is_of_client = origin == CallOrigin::Client;
        let is_linked = !is_of_client || !invocation.is_awaited();
        let trace = self.tracer.trace(&invocation.traceparent, origin, is_linked);
        let trace = trace.of_request(invocation.request.clone());
        let whole = if is_of_client { invocation.whole_limit() } else { None };
        Timing::traced(self.deadlines, whole, trace)
    }

    /// Whether a call may be admitted, as far as that is known without the call.
    ///
    /// # Errors
    /// When no place is free and none is waited for, or the proxy is draining.
    pub(crate) fn look(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::Draining);
        }
        self.queue.look_for_place().map_err(|_| no_free_place())
    }

    /// Takes a permit of admission, in the share of the actor's host. When the mesh is set to wait, it waits for one until the
    /// call is too late.
    ///
    /// # Errors
    /// When there is no permit, or the proxy is draining.
    pub(crate) async fn reserve(
        &self,
        bytes: usize,
        timing: &Timing,
        entry: &Entry,
    ) -> Result<Permit, Error> {
        let hosted = entry.spec().hosted;
        if hosted.several.is_some()
            && let Some(permit) = self.reserve_now(bytes, entry)
        {
            return Ok(permit);
        }
        let (_, host) = hosted.choose(&entry.mailbox, None);
        let reserving = self.queue.reserve_in(&host.admitted, bytes);
        let reserved = timeout_at(timing.start_by, reserving).await;
        reserved.unwrap_or(Err(Refused::Full)).map_err(|refused| refusal(refused, entry))
    }

    /// Takes a permit for a call if that needs no wait, in the share of one of the actor's hosts.
    pub(crate) fn reserve_now(&self, bytes: usize, entry: &Entry) -> Option<Permit> {
        entry.with_hosted(|hosted| {
            let mut shares = hosted.shares(&entry.mailbox);
            shares.find_map(|share| self.queue.reserve_now_in(share, bytes))
        })
    }

    /// Queues a call. Returns the reply to wait for; `None` for an asynchronous call.
    fn place(&self, admitted: Admitted) -> Result<Option<PendingReply<Payload>>, Error> {
        let Admitted { entry, invocation, effect, delivery, .. } = &admitted;
        self.check_location(&entry.actor)?;
        let is_bounded = effect.is_some() || delivery.is_some();
        let place_for_paused = self.wait_for_paused(entry, is_bounded, invocation.is_awaited())?;
        self.queue_call(admitted, place_for_paused)
    }

    fn queue_call(
        &self,
        admitted: Admitted,
        place_for_paused: Option<OwnedSemaphorePermit>,
    ) -> Result<Option<PendingReply<Payload>>, Error> {
        let Admitted { entry, invocation, timing, permit, effect, delivery, load } = admitted;
        timing.mark(Mark::Placed);
        let traced = timing.is_traced().then(|| timing.clone());
        let is_async = !invocation.is_awaited();
        let (reply, waiting) = if invocation.is_awaited() {
            let (reply, waiting) = Reply::new(&timing);
            (reply, Some(waiting))
        } else {
            (Reply::unwanted(), None)
        };
        let (is_effect, is_of_member) = (effect.is_some(), load.is_some());
        let (writes, host_limit) = entry.with_hosted(|hosted| {
            let definition = &hosted.definition;
            let sees = is_effect && definition.stateful;
            let writes = sees || definition.may_change(&invocation.action);
            (writes, hosted.limit_for(&invocation.action, permit.as_ref(), &entry.mailbox))
        });
        let call = Call {
            writes,
            action: invocation.action,
            payload: invocation.payload,
            metadata: invocation.metadata,
            identity: invocation.identity,
            caller: invocation.caller,
            traceparent: invocation.traceparent,
            timing,
            reply,
            spawns: !invocation.register_ref.is_empty(),
            route: Vec::new(),
            is_async,
            permit,
            place_for_paused: None,
            effect,
            _delivery: delivery,
            _load: load,
        };
        let is_exempt = call.permit.is_none();
        let retries = call.retries();
        let task = Task::Call(Box::new(call));
        let placed = Placed { entry: entry.clone(), host_limit, task, place: None, retries };
        let pushed = if is_exempt {
            self.push_exempt(placed)
        } else {
            self.queue.push(placed).map_err(|Rejected { event, reason }| {
                let error = refusal(reason, &entry);
                event.fail(error.clone());
                error
            })
        };
        let Pushed { id, waits_for } = pushed?;
        if is_of_member && entry.is_dismissed() {
            // It may have left memory already, while the call waited for its permit.
            self.let_go(vec![entry.clone()]);
        }
        if let (Some(timing), Some(what)) = (traced, waits_for) {
            timing.trace().waits_for(first_wait(what, &entry));
        }
        Ok(waiting.map(|waiting| self.pending(waiting, &entry, id).holding(place_for_paused)))
    }

    /// Takes what a call counts for that waits for a paused actor: without a bound of their own, calls for many paused actors
    /// would take all places of the others. `None` when the actor is not paused.
    ///
    /// # Errors
    /// When too many calls wait for paused actors, nothing would end this one's wait, or the proxy is draining.
    fn wait_for_paused(
        &self,
        entry: &Entry,
        is_bounded: bool,
        is_awaited: bool,
    ) -> Result<Option<OwnedSemaphorePermit>, Error> {
        if !entry.is_paused() {
            return Ok(None);
        }
        if self.is_closed() {
            return Err(Error::Draining);
        }
        if is_bounded {
            return Ok(None);
        }
        let refused = |why| overloaded("paused", format!("{} is paused{why}", entry.actor));
        if !is_awaited {
            return Err(refused(": asynchronous calls do not wait for it"));
        }
        let place = self.for_paused.clone().try_acquire_owned();
        place.map(Some).map_err(|_| refused(", and too many calls wait for paused actors"))
    }

    fn check_location(&self, actor: &ActorRef) -> Result<(), Error> {
        match self.placement.locate(actor) {
            Location::Here => Ok(()),
            Location::Node(node) => {
                Err(Error::Conflict(format!("Actor {} runs on node {node}", actor.name())))
            }
            Location::Nobody => Err(Error::Overloaded {
                reason: format!("nobody owns {actor} at the moment"),
                retry_after: RETRY_AFTER,
            }),
        }
    }

    fn pending<T>(
        &self,
        waiting: crate::reply::Waiting<T>,
        entry: &Arc<Entry>,
        id: EventId,
    ) -> PendingReply<T> {
        let (queue, alarms) = (self.queue.clone(), self.alarms.clone());
        PendingReply::new(waiting, queue, entry.clone(), id, alarms)
    }

    /// Admits a question from outside like a call, and queues it.
    ///
    /// # Errors
    /// When a bound is reached, or the proxy is draining.
    pub(crate) async fn ask_for<T>(
        &self,
        entry: &Arc<Entry>,
        task: impl FnOnce(Question<T>) -> Task,
    ) -> Result<PendingReply<T>, Error> {
        let actor = entry.actor.clone();
        self.check_location(&actor)?;
        let place_for_paused = self.wait_for_paused(entry, false, true)?;
        let timing = Timing::of_store(self.deadlines, None);
        let permit = self.reserve(0, &timing, entry).await?;
        let (reply, waiting) = Reply::new(&timing);
        let placed = self.placed(entry, task(Question { reply, timing, permit }));
        if placed.host_limit != 0
            && let Some(error) = entry.with_hosted(Hosted::refusal)
        {
            return Err(error);
        }
        let pushed = self.queue.push(placed);
        let Pushed { id, .. } = pushed.map_err(|rejected| refusal(rejected.reason, entry))?;
        Ok(self.pending(waiting, entry, id).holding(place_for_paused))
    }

    /// Queues the wish that an actor leaves memory.
    ///
    /// # Errors
    /// When its mailbox is full, or the proxy is draining.
    pub(crate) fn ask_to_leave(&self, entry: &Arc<Entry>) -> Result<PendingReply<()>, Error> {
        let timing = Timing::new(self.deadlines, None);
        let (done, waiting) = Reply::new(&timing);
        let placed = self.placed(entry, Task::Deactivate { idle: None, done });
        let pushed = self.queue.push(placed);
        let Pushed { id, .. } = pushed.map_err(|rejected| refusal(rejected.reason, entry))?;
        Ok(self.pending(waiting, entry, id))
    }

    fn placed(&self, entry: &Arc<Entry>, task: Task) -> Placed {
        let limit = |hosted: &Hosted| hosted.limit_to_activate(&entry.mailbox);
        let host_limit = if task.needs_host() { entry.with_hosted(limit) } else { 0 };
        let retries = Retries::within(self.deadlines.start);
        Placed { entry: entry.clone(), host_limit, task, place: None, retries }
    }

    /// Queues a task of the mesh itself: never refused. Its maker bounds how many there are.
    pub(crate) fn ask(&self, entry: &Arc<Entry>, task: Task) {
        self.requeue(self.placed(entry, task));
    }

    /// Queues that members of pools which were dismissed leave memory, each after the calls that wait for it.
    pub(crate) fn let_go(&self, dismissed: Vec<Arc<Entry>>) {
        for member in dismissed {
            self.ask(&member, Task::Deactivate { idle: None, done: Reply::unwanted() });
        }
    }

    /// Queues a call that was admitted before, at the tail of the mailbox of its next actor. The time to start begins again. When
    /// that is over, its caller removes the call, as at its first actor.
    pub(crate) fn route(&self, mut placed: Placed) {
        let mut awaited = None;
        if let Task::Call(call) = &mut placed.task {
            call.timing.routed();
            if let Some(last) = call.route.last_mut() {
                last.times = call.timing.next_hop();
            }
            placed.retries = call.retries();
            if call.reply.is_wanted() {
                awaited = Some(call.timing.clone());
            }
            if awaited.is_some() || call.permit.is_some() {
                match self.wait_for_paused(&placed.entry, false, true) {
                    // The place that it may have had at its last actor is free.
                    Ok(place) => drop(std::mem::replace(&mut call.place_for_paused, place)),
                    Err(error) => return placed.fail(error),
                }
            }
        }
        let mailbox = placed.entry.mailbox.clone();
        // It has failed when it is refused.
        let Ok(Pushed { id, .. }) = self.push_exempt(placed) else { return };
        if awaited.is_some_and(|timing| timing.routed_to(mailbox.clone(), id)) {
            drop(pending_reply::remove(&self.queue, &mailbox, id));
        }
    }

    fn requeue(&self, placed: Placed) {
        // It has failed when it is refused.
        drop(self.push_exempt(placed));
    }

    /// Queues a turn that was admitted before, or that the mesh makes itself. When the mailboxes are closed they know no pauses
    /// any more: nothing that runs an action of a paused actor is queued then.
    ///
    /// # Errors
    /// When the proxy is draining; the turn has failed with that.
    fn push_exempt(&self, placed: Placed) -> Result<Pushed, Error> {
        let pauses_stand = self.closing.read();
        if self.is_closed() && placed.task.needs_host() && placed.entry.is_paused() {
            drop(pauses_stand);
            placed.fail(Error::Draining);
            return Err(Error::Draining);
        }
        let pushed = self.queue.push_exempt(placed);
        drop(pauses_stand);
        pushed.map_err(|rejected| {
            rejected.event.fail(Error::Draining);
            Error::Draining
        })
    }
}

/// What the trace of a call for this actor says that the call waits for in its mailbox (decision 44).
fn first_wait(what: WaitsFor, entry: &Entry) -> FirstWait {
    match what {
        WaitsFor::Resume => FirstWait::Paused,
        WaitsFor::Turn => FirstWait::Turn,
        WaitsFor::Class if entry.with_hosted(Hosted::is_away) => FirstWait::HostBreaker,
        WaitsFor::Class => FirstWait::HostPermit,
        WaitsFor::Gate => FirstWait::Checkpoint,
        _ => FirstWait::Worker,
    }
}

/// Returns the error of a refused call.
fn refusal(refused: Refused, entry: &Entry) -> Error {
    match refused {
        Refused::Closed => Error::Draining,
        Refused::TooLarge => {
            Error::TooLarge("the call is larger than the whole admission bound".into())
        }
        Refused::KeyFull => {
            overloaded("mailbox", format!("the mailbox of {} is full", entry.actor))
        }
        Refused::ShareFull => {
            let hosted = entry.spec().hosted;
            let host = match &hosted.several {
                None => format!("the host at {}", hosted.address()),
                Some(_) => format!("each host of {}", hosted.definition.id),
            };
            let reason = format!("the calls of {host} hold as many places as they may");
            overloaded("host_share", reason)
        }
        Refused::Full => no_free_place(),
    }
}

fn no_free_place() -> Error {
    overloaded("admission", "the proxy has no free place for another call".to_owned())
}

/// The error of a call that a bound refuses; counted under its label.
pub(crate) fn overloaded(label: &'static str, reason: String) -> Error {
    counter!(CALLS_REFUSED_TOTAL, "reason" => label).increment(1);
    Error::Overloaded { reason, retry_after: RETRY_AFTER }
}

impl Service<Admitted> for &Mailboxes {
    type Response = Option<PendingReply<Payload>>;
    type Error = Error;
    type Future = Ready<Result<Option<PendingReply<Payload>>, Error>>;

    /// Always ready: the permit was taken at admission.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, admitted: Admitted) -> Self::Future {
        ready(self.place(admitted))
    }
}

#[cfg(test)]
mod tests;
