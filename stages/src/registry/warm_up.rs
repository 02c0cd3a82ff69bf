//! Warm-up: activates eligible actors after their registration, a few at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

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
            let Ok(_one_of_few) = few.acquire().await else { return };
            // A paused one would keep its turn waiting, and the others behind it: its first call activates it.
            if !mailboxes.is_closed() && !entry.is_paused() {
                let (reply, waiting) = Reply::new(&Timing::new(mailboxes.deadlines(), None));
                mailboxes.ask(&entry, Task::WarmUp(reply));
                if let Err(error) = waiting.answer().await {
                    warn!(actor = %entry.actor, %error, "warm-up failed; the first call will try again");
                }
            }
            entry.warming.store(false, Ordering::Release);
        });
    }
}
