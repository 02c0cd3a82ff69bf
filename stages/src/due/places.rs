//! Places: how many calls of due work are made at once. Pure: it is told the time.
//!
//! A call holds a place until it ends, or until it has been without an answer for a while. Then it *waits* for its target and
//! is counted among those that wait, so that targets that do not answer keep no place from the calls to others. Calls to targets
//! that hung before get at most half of the places, and none while so many wait that they could not wait, too.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Places at first and at most.
const FIRST: usize = 16;
const MOST: usize = 256;
/// Calls that wait for their targets at most. Further ones hold their places until they end.
const WAITING: usize = 1_024;
/// How long a call holds its place.
const PROMPT: Duration = Duration::from_millis(500);

/// Places, of calls that know a `T`; see the [module](self).
#[derive(Debug)]
pub(super) struct Places<T> {
    limit: usize,
    /// The number of the next call.
    next: u64,
    /// The calls that hold a place, in the order of their starts.
    starting: BTreeMap<u64, Starting<T>>,
    /// How many of them are to targets that hung before.
    hanging: usize,
    waiting: usize,
}

/// A call that holds a place.
#[derive(Debug)]
struct Starting<T> {
    since: Instant,
    known: T,
    hung_before: bool,
}

impl<T> Places<T> {
    pub(super) fn new() -> Self {
        Self { limit: FIRST, next: 0, starting: BTreeMap::new(), hanging: 0, waiting: 0 }
    }

    pub(super) fn has_free(&self) -> bool {
        self.starting.len() < self.limit
    }

    /// Whether a free place may be given to a call to a target that hung before.
    pub(super) fn may_hang(&self) -> bool {
        self.hanging < self.limit / 2 && self.waiting + self.starting.len() < WAITING
    }

    /// Places at most, free ones included.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Gives a call a place. Returns its number.
    pub(super) fn take(&mut self, since: Instant, known: T, hung_before: bool) -> u64 {
        let number = self.next;
        self.next += 1;
        self.hanging += usize::from(hung_before);
        self.starting.insert(number, Starting { since, known, hung_before });
        number
    }

    /// The call that has held its place for too long, if it can wait without one: it has none any more.
    pub(super) fn pass(&mut self, now: Instant) -> Option<T> {
        let is_over = self.next_pass().is_some_and(|at| at <= now);
        let (_, Starting { known, hung_before, .. }) =
            is_over.then(|| self.starting.pop_first()).flatten()?;
        self.hanging -= usize::from(hung_before);
        self.waiting += 1;
        Some(known)
    }

    /// When the next call has held its place for too long.
    pub(super) fn next_pass(&self) -> Option<Instant> {
        let first = self.starting.values().next().filter(|_| self.waiting < WAITING)?;
        Some(first.since + PROMPT)
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, number: u64) {
        if let Some(call) = self.starting.remove(&number) {
            self.hanging -= usize::from(call.hung_before);
        } else {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    /// A call was answered: there is one place more.
    pub(super) fn widen(&mut self) {
        self.limit = (self.limit + 1).min(MOST);
    }

    /// Something failed: there are half as many places.
    pub(super) fn narrow(&mut self) {
        self.limit = (self.limit / 2).max(FIRST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills all places at a time.
    fn fill(places: &mut Places<usize>, now: Instant) -> Vec<u64> {
        let mut taken = Vec::new();
        while places.has_free() {
            taken.push(places.take(now, taken.len(), false));
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_gives_its_place_back_and_what_waits_is_bounded() {
        let (mut places, mut now) = (Places::new(), Instant::now());
        let first = fill(&mut places, now);
        assert_eq!((first.len(), places.pass(now)), (FIRST, None));
        let mut passed = 0;
        for _ in 0..WAITING {
            now += PROMPT;
            while places.pass(now).is_some() {
                passed += 1;
            }
            fill(&mut places, now);
        }
        assert_eq!((passed, places.next_pass()), (WAITING, None));
        assert!(!places.has_free(), "further ones hold their places");
        // One that waited has ended, so another one waits.
        places.ended(first[0]);
        assert_eq!(places.pass(now + PROMPT), Some(0));
        assert!(places.has_free() && places.pass(now + PROMPT).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_to_targets_that_hung_before_leave_half_of_the_places_and_never_wait_too_many() {
        let (mut places, mut now) = (Places::new(), Instant::now());
        let mut numbers = Vec::new();
        for _ in 0..2 * WAITING / FIRST {
            while places.may_hang() {
                numbers.push(places.take(now, (), true));
            }
            assert!(places.has_free(), "half of them are left");
            now += PROMPT;
            while places.pass(now).is_some() {}
        }
        assert_eq!((numbers.len(), places.may_hang()), (WAITING, false));
        for number in numbers {
            places.ended(number);
        }
        let first = places.take(now, (), true);
        assert_eq!(places.hanging, 1);
        places.ended(first);
        assert_eq!((places.hanging, places.waiting), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn each_success_gives_a_place_and_a_failure_takes_half_of_them() {
        let mut places = Places::<()>::new();
        for _ in 0..1_000 {
            places.widen();
        }
        assert_eq!(places.limit(), MOST);
        for _ in 0..10 {
            places.narrow();
        }
        assert_eq!(places.limit(), FIRST);
    }
}
