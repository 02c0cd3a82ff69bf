//! Subscribers: what each of them asked for, and what it may ask for again.

use crate::demand::Account;
use crate::dispatcher::ledgers::Ledgers;
use crate::subscription::SubscriberId;

/// The ledger and the account of every subscriber. The accounts are here, not with the consumers,
/// because a turn gives its demand back by itself.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    ledgers: Ledgers,
    accounts: Vec<(SubscriberId, Account)>,
}

impl Subscribers {
    pub(crate) fn add(&mut self, id: SubscriberId, account: Account) {
        self.ledgers.subscribe(id);
        self.accounts.push((id, account));
    }

    /// Forgets a subscriber and its demand. Returns whether it was there.
    pub(crate) fn remove(&mut self, id: SubscriberId) -> bool {
        self.accounts.retain(|(other, _)| *other != id);
        self.ledgers.cancel(id)
    }

    /// Changes an account. Records the demand that the change returns, and returns how much it is.
    pub(crate) fn update(
        &mut self,
        id: SubscriberId,
        change: impl FnOnce(&mut Account) -> usize,
    ) -> usize {
        let account = self.accounts.iter_mut().find(|(other, _)| *other == id);
        let asked = account.map_or(0, |(_, account)| change(account));
        if asked > 0 {
            self.ledgers.ask(id, asked);
        }
        asked
    }

    /// Whether a subscriber asks for an event.
    pub(crate) fn has_demand(&self) -> bool {
        self.ledgers.largest() > 0
    }

    /// How many events are asked for and not granted.
    pub(crate) fn demand(&self) -> usize {
        self.ledgers.total()
    }

    /// Grants one event to the subscriber with the largest outstanding demand.
    pub(crate) fn grant_one(&mut self) -> Option<SubscriberId> {
        self.ledgers.grant(1).map(|(id, _)| id)
    }
}
