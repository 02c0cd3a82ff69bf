//! Warm-up: activates eligible actors after their registration, a few at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_pipeline::Drain;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tracing::warn;

use crate::actor::ActorRef;
use crate::actor_timers::ActorTimers;
use crate::call::Task;
use crate::error::Error;
use crate::placement::Mailboxes;
use crate::registry::entry::Entry;
use crate::registry::pauses::Pauses;
use crate::reply::{Reply, Timing};

/// Actors that are warmed up concurrently.
const WARM_UPS: usize = 16;

/// Warms actors up. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct WarmUps {
    mailboxes: Mailboxes,
    timers: ActorTimers,
    pauses: Arc<Pauses>,
    tasks: Drain,
    few: Arc<Semaphore>,
}

impl WarmUps {
    pub(super) fn new(
        mailboxes: Mailboxes,
        timers: ActorTimers,
        pauses: Arc<Pauses>,
        tasks: Drain,
    ) -> Self {
        Self { mailboxes, timers, pauses, tasks, few: Arc::new(Semaphore::new(WARM_UPS)) }
    }

    /// Whether timers of actors tick at all.
    pub(super) fn timers_are_on(&self) -> bool {
        self.timers.are_on()
    }

    /// Activates an actor in the background if its definition says so.
    pub(super) fn start(&self, entry: Arc<Entry>) {
        // One warm-up at a time for each actor, so repeated registrations of a host do not pile up.
        if !entry.spec().hosted.definition.is_warmed_up()
            || entry.warming.swap(true, Ordering::AcqRel)
        {
            return;
        }
        // Whatever becomes of it, a tick activates the actor: nobody may ever call it.
        self.timers.start(&entry, &entry.spec().hosted.definition);
        let this = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = this.warm_up(&entry).await {
                warn!(actor = %entry.actor, %error, "warm-up failed; the first call will try again");
            }
            entry.warming.store(false, Ordering::Release);
        });
    }

    /// Activates an actor once it is not paused. Does nothing when the proxy ends, or when its host has registered without it
    /// meanwhile.
    async fn warm_up(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        let mailboxes = &self.mailboxes;
        let Ok(_one_of_few) = self.once_resumed(&entry.actor).await else { return Ok(()) };
        if mailboxes.is_closed() || !entry.spec().hosted.definition.is_warmed_up() {
            return Ok(());
        }
        let timing = Timing::new(mailboxes.deadlines(), None);
        let (reply, waiting) = Reply::new(&timing);
        mailboxes.ask(entry, Task::WarmUp(reply, timing));
        waiting.answer().await
    }

    /// Waits until an actor is not paused and one more may be warmed up, or until the proxy ends.
    async fn once_resumed(&self, actor: &ActorRef) -> Result<SemaphorePermit<'_>, AcquireError> {
        loop {
            tokio::select! {
                () = self.pauses.resumed(actor) => {}
                () = self.mailboxes.closed() => return self.few.acquire().await,
            }
            let one_of_few = self.few.acquire().await;
            if !self.pauses.is_paused(actor) {
                return one_of_few;
            }
        }
    }
}
