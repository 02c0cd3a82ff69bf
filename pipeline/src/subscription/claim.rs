//! Claim: the consumer's account with one producer.

use std::fmt;
use std::sync::Arc;

use crate::demand::Account;
use crate::dispatcher::SubscriberId;
use crate::sync::Mutex;

/// What a consumer asks of its producer, whatever the events are.
pub(crate) trait Upstream: Send + Sync {
    /// Books the first demand of a subscriber that keeps its account here.
    fn open(&self, id: SubscriberId);
    /// Books demand; returns how much was booked.
    fn ask(&self, id: SubscriberId, events: usize) -> usize;
    /// Grants no more; what was granted stays granted. Idempotent.
    fn cancel(&self, id: SubscriberId);
    /// The consumer has let go of the subscription and of everything it was granted.
    fn detached(&self, id: SubscriberId);
}

/// The consumer's account with a producer, shared by everything that was granted through it.
pub(crate) struct Claim {
    pub(crate) id: SubscriberId,
    pub(crate) upstream: Arc<dyn Upstream>,
    /// `None` when the producer keeps it, because its events give demand back by themselves.
    pub(crate) account: Option<Mutex<Account>>,
    /// How many events to finish before [`done`](Claim::done) is worth telling.
    pub(crate) stride: usize,
}

impl Claim {
    /// Starts the demand.
    pub(crate) fn open(&self) {
        match &self.account {
            Some(account) => self.pass_on(account.lock().open()),
            None => self.upstream.open(self.id),
        }
    }

    /// Notes that events are done, and asks again when it is time.
    pub(crate) fn done(&self, events: usize) {
        if let Some(account) = &self.account
            && events > 0
        {
            let again = account.lock().give_back(events);
            self.pass_on(again);
        }
    }

    /// Notes that events were not wanted: asks again for each of them at once.
    pub(crate) fn unwanted(&self, events: usize) {
        if self.account.is_some() {
            self.pass_on(events);
        }
    }

    pub(super) fn ask(&self, events: usize) -> usize {
        match &self.account {
            Some(account) => {
                let events = account.lock().ask(events);
                self.pass_on(events);
                events
            }
            None => self.upstream.ask(self.id, events),
        }
    }

    fn pass_on(&self, events: usize) {
        if events > 0 {
            self.upstream.ask(self.id, events);
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.upstream.cancel(self.id);
        self.upstream.detached(self.id);
    }
}
