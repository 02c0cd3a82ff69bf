//! Waiting: the queue of one key. An event is removed at any position without a look at the others.
//!
//! The numbers of a queue rise, so an event is found by a binary search. An event that is removed in the middle leaves
//! a *gap*. The first and the last are never gaps. Gaps go when there are more of them than events, so a removal costs
//! a constant on average, besides its search.

use std::collections::VecDeque;

/// Names an event of a keyed producer from its push to the end of its turn. Later events have larger numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub(crate) u64);

impl EventId {
    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The name of the event with this number.
    pub fn of_number(number: u64) -> EventId {
        EventId(number)
    }
}

/// An event that waits until its key is free.
#[derive(Debug)]
pub(crate) struct Queued<T> {
    pub(crate) id: EventId,
    pub(crate) event: T,
    pub(crate) class: u32,
    /// Whether it does not count against the bound of its key.
    pub(crate) exempt: bool,
}

#[derive(Debug)]
enum Position<T> {
    Taken(Queued<T>),
    Gap(EventId),
}

impl<T> Position<T> {
    fn id(&self) -> EventId {
        match self {
            Position::Taken(queued) => queued.id,
            Position::Gap(id) => *id,
        }
    }

    fn queued(&self) -> Option<&Queued<T>> {
        match self {
            Position::Taken(queued) => Some(queued),
            Position::Gap(_) => None,
        }
    }

    fn into_queued(self) -> Option<Queued<T>> {
        match self {
            Position::Taken(queued) => Some(queued),
            Position::Gap(_) => None,
        }
    }
}

/// The queued events of one key, in order; see the [module](self).
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    positions: VecDeque<Position<T>>,
    gaps: usize,
    /// How many entries of `positions` all removals have looked at.
    #[cfg(test)]
    pub(crate) looked_at: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Waiting<T> {
        Waiting {
            positions: VecDeque::new(),
            gaps: 0,
            #[cfg(test)]
            looked_at: 0,
        }
    }
}

impl<T> Waiting<T> {
    pub(crate) fn len(&self) -> usize {
        self.positions.len() - self.gaps
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// How many events fit into the memory that is allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.positions.capacity()
    }

    pub(crate) fn front(&self) -> Option<&Queued<T>> {
        self.positions.front().and_then(Position::queued)
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Queued<T>> {
        match self.positions.front_mut() {
            Some(Position::Taken(queued)) => Some(queued),
            _ => None,
        }
    }

    /// The events in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued<T>> {
        self.positions.iter().filter_map(Position::queued)
    }

    /// Appends an event, whose number is above all others.
    pub(crate) fn push_back(&mut self, queued: Queued<T>) {
        debug_assert!(self.positions.back().is_none_or(|last| last.id() < queued.id));
        self.positions.push_back(Position::Taken(queued));
    }

    /// Puts an event before all others. Its number is below theirs.
    pub(crate) fn push_front(&mut self, queued: Queued<T>) {
        debug_assert!(self.positions.front().is_none_or(|first| first.id() > queued.id));
        self.positions.push_front(Position::Taken(queued));
    }

    pub(crate) fn pop_front(&mut self) -> Option<Queued<T>> {
        let first = self.positions.pop_front()?.into_queued();
        self.trim();
        first
    }

    /// Removes the last event if `is_meant`.
    pub(crate) fn pop_back_if(&mut self, is_meant: impl FnOnce(&T) -> bool) -> Option<Queued<T>> {
        let last = self.positions.back().and_then(Position::queued)?;
        if !is_meant(&last.event) {
            return None;
        }
        let last = self.positions.pop_back()?.into_queued();
        self.trim();
        last
    }

    /// Removes an event.
    pub(crate) fn remove(&mut self, id: EventId) -> Option<Queued<T>> {
        #[cfg(test)]
        let looked_at = &mut self.looked_at;
        let found = self.positions.binary_search_by(|position| {
            #[cfg(test)]
            {
                *looked_at += 1;
            }
            position.id().cmp(&id)
        });
        let position = self.positions.get_mut(found.ok()?)?;
        let removed = std::mem::replace(position, Position::Gap(id)).into_queued()?;
        self.gaps += 1;
        self.trim();
        if self.gaps > self.len() {
            #[cfg(test)]
            {
                self.looked_at += self.positions.len();
            }
            self.positions.retain(|position| position.queued().is_some());
            self.gaps = 0;
        }
        Some(removed)
    }

    /// Removes all events and returns them in order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Queued<T>> {
        self.gaps = 0;
        self.positions.drain(..).filter_map(Position::into_queued)
    }

    /// Removes gaps at both ends.
    fn trim(&mut self) {
        while self.positions.pop_front_if(|first| first.queued().is_none()).is_some() {
            self.gaps -= 1;
        }
        while self.positions.pop_back_if(|last| last.queued().is_none()).is_some() {
            self.gaps -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers below `count` in an order that jumps: 7,919 has no factor in common with a power of ten.
    fn scattered(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |step| step * 7_919 % count)
    }

    #[test]
    fn ten_thousand_removals_look_at_few_events_each() {
        const CALLS: u64 = 10_000;
        let orders: [Vec<u64>; 3] =
            [(0..CALLS).collect(), (0..CALLS).rev().collect(), scattered(CALLS).collect()];
        for order in orders {
            let mut waiting = Waiting::default();
            for number in 0..CALLS {
                let queued = Queued { id: EventId(number), event: number, class: 0, exempt: false };
                waiting.push_back(queued);
            }
            for (removed, number) in (1..).zip(order) {
                assert_eq!(
                    waiting.remove(EventId(number)).map(|queued| queued.event),
                    Some(number)
                );
                assert!(waiting.remove(EventId(number)).is_none());
                assert_eq!(waiting.len() as u64, CALLS - removed);
                assert_eq!(waiting.is_empty(), removed == CALLS);
            }
            println!("looked at {} events for {CALLS} removals", waiting.looked_at);
            assert!(waiting.looked_at as u64 <= 40 * CALLS, "{}", waiting.looked_at);
        }
    }
}
