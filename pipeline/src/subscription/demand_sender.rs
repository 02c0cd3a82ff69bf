//! Demand sender: the consumer's handle on one producer, through which it asks for events.

use std::fmt;
use std::sync::Arc;

use crate::demand::Account;
use crate::subscription::SubscriberId;
use crate::sync::Mutex;

/// What a consumer asks of its producer, whatever the type of the events is.
pub(crate) trait Upstream: Send + Sync {
    /// Records the first demand of a subscriber whose account the producer keeps.
    fn open(&self, id: SubscriberId);
    /// Records demand. Returns how much was recorded.
    fn ask(&self, id: SubscriberId, events: usize) -> usize;
    /// Ends the grants to a subscriber. Granted events stay granted. Idempotent.
    fn cancel(&self, id: SubscriberId);
    /// Records that the consumer dropped the subscription and finished all its events.
    fn detached(&self, id: SubscriberId);
}

/// Asks one producer for events. All events of the subscription that are not done share it: when the last one is done,
/// its drop tells the producer.
pub(crate) struct DemandSender {
    pub(crate) id: SubscriberId,
    pub(crate) upstream: Arc<dyn Upstream>,
    /// `None` when the producer keeps the account, because its events give demand back by themselves.
    pub(crate) account: Option<Mutex<Account>>,
    /// How many events to finish before [`done`](DemandSender::done) matters.
    pub(crate) stride: usize,
}

impl DemandSender {
    /// Starts the demand.
    pub(crate) fn open(&self) {
        match &self.account {
            Some(account) => self.pass_on(account.lock().open()),
            None => self.upstream.open(self.id),
        }
    }

    /// Gives back the demand of finished events. Asks again when at most the minimum demand is left.
    pub(crate) fn done(&self, events: usize) {
        if let Some(account) = &self.account
            && events > 0
        {
            let again = account.lock().give_back(events);
            self.pass_on(again);
        }
    }

    /// Asks again at once for events that the selector did not want.
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

impl fmt::Debug for DemandSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemandSender").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for DemandSender {
    fn drop(&mut self) {
        self.upstream.cancel(self.id);
        self.upstream.detached(self.id);
    }
}
