//! Warm-up: activates eligible actors after their registration, a few at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_pipeline::Drain;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::actor_timers::ActorTimers;
use crate::call::Task;
use crate::placement::Mailboxes;
use crate::registry::entry::Entry;
use crate::reply::{Reply, Timing};

/// Actors that are warmed up concurrently.
const WARM_UPS: usize = 16;
/// How long the warm-up of a paused actor is awaited. Its turn comes when the pause ends, or fails when the proxy does.
const WHILE_PAUSED: Duration = Duration::from_hours(24 * 365);

/// Warms actors up. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct WarmUps {
    mailboxes: Mailboxes,
    timers: ActorTimers,
    tasks: Drain,
    few: Arc<Semaphore>,
}

impl WarmUps {
    pub(super) fn new(mailboxes: Mailboxes, timers: ActorTimers, tasks: Drain) -> Self {
        Self { mailboxes, timers, tasks, few: Arc::new(Semaphore::new(WARM_UPS)) }
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
        let (mailboxes, few) = (self.mailboxes.clone(), self.few.clone());
        self.tasks.spawn(async move {
            let Ok(one_of_few) = few.acquire().await else { return };
            if !mailboxes.is_closed() {
                let is_paused = entry.is_paused();
                // The turn of a paused one waits for the end of the pause, and no other warm-up waits behind it.
                let _one_of_few = (!is_paused).then_some(one_of_few);
                let limit = is_paused.then_some(WHILE_PAUSED);
                let (reply, waiting) = Reply::new(&Timing::new(mailboxes.deadlines(), limit));
                mailboxes.ask(&entry, Task::WarmUp(reply));
                if let Err(error) = waiting.answer().await {
                    warn!(actor = %entry.actor, %error, "warm-up failed; the first call will try again");
                }
            }
            entry.warming.store(false, Ordering::Release);
        });
    }
}
