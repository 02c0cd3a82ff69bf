//! Marks: when a call reached its stages, in memory that it has anyway.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use crate::blocked_on::RetryOf;

/// What a call has reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// It has waited for its admission, and has it.
    Reserved,
    /// It is in the mailbox of its actor.
    Placed,
    /// It was granted.
    Granted,
    /// Its actor is in memory.
    Activated,
    /// Its host is being called.
    Called,
    /// The host has answered.
    Answered,
    /// Its response is applied.
    Planned,
    /// Its commit is with the store.
    Writing,
}

const MARKS: usize = 8;

/// The times of a call at one actor, in microseconds since the call began. 0: not reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    at_us: [u32; MARKS],
    /// How long it was parked, by what was tried again.
    pub(crate) parked_us: [u32; RetryOf::ALL.len()],
    /// How often it was granted again after a try that failed.
    pub(crate) retries: u32,
}

impl Times {
    pub(crate) fn of(&self, mark: Mark) -> Option<u32> {
        Some(self.at_us[mark as usize]).filter(|at| *at > 0)
    }
}

/// The same while they are being written, by one task after the other.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    at_us: [AtomicU32; MARKS],
    parked_us: [AtomicU32; RetryOf::ALL.len()],
    retries: AtomicU32,
    parked_at_us: AtomicU32,
    parked_of: AtomicU8,
}

/// Whoever reads got the call from whoever wrote.
const ORDER: Ordering = Ordering::Relaxed;

/// Microseconds, never 0; an hour and more is the most that is told apart.
pub(crate) fn micros(after: Duration) -> u32 {
    u32::try_from(after.as_micros()).unwrap_or(u32::MAX).max(1)
}

impl Marks {
    pub(crate) fn set(&self, mark: Mark, after: Duration) {
        let (place, now) = (&self.at_us[mark as usize], micros(after));
        if matches!(mark, Mark::Granted) {
            let parked_at = self.parked_at_us.swap(0, ORDER);
            if parked_at > 0 {
                if let Some(parked) = self.parked_us.get(usize::from(self.parked_of.load(ORDER))) {
                    parked.fetch_add(now.saturating_sub(parked_at), ORDER);
                }
                self.retries.fetch_add(1, ORDER);
            } else if place.load(ORDER) > 0 {
                // It was loaded meanwhile: that is part of its turn.
                return;
            }
        }
        place.store(now, ORDER);
    }

    /// It is parked, to be tried again: what it had reached since its grant does not count.
    pub(crate) fn parked(&self, of: RetryOf, after: Duration) {
        self.parked_of.store(of as u8, ORDER);
        self.parked_at_us.store(micros(after), ORDER);
        for place in &self.at_us[Mark::Granted as usize..] {
            place.store(0, ORDER);
        }
    }

    fn times(&self) -> Times {
        let mut times = Times { retries: self.retries.load(ORDER), ..Times::default() };
        for (to, from) in times.at_us.iter_mut().zip(&self.at_us) {
            *to = from.load(ORDER);
        }
        for (to, from) in times.parked_us.iter_mut().zip(&self.parked_us) {
            *to = from.load(ORDER);
        }
        times
    }

    /// The times of a call that has ended. It may have been parked.
    pub(crate) fn end(&self, after: Duration) -> Times {
        let (mut times, parked_at) = (self.times(), self.parked_at_us.load(ORDER));
        if parked_at > 0
            && let Some(parked) = times.parked_us.get_mut(usize::from(self.parked_of.load(ORDER)))
        {
            *parked += micros(after).saturating_sub(parked_at);
        }
        times
    }

    /// Begins anew: the call goes on to another actor.
    pub(crate) fn take(&self) -> Times {
        let times = self.times();
        for place in self.at_us.iter().chain(&self.parked_us).chain([&self.retries]) {
            place.store(0, ORDER);
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_turn_that_is_parked_begins_anew_and_one_that_is_loaded_does_not() {
        let marks = Marks::default();
        marks.set(Mark::Placed, ms(1));
        marks.set(Mark::Granted, ms(2));
        marks.set(Mark::Granted, ms(5));
        assert_eq!(marks.times().of(Mark::Granted), Some(2_000), "it was loaded for 3 ms");
        marks.set(Mark::Activated, ms(6));
        marks.set(Mark::Called, ms(7));
        marks.parked(RetryOf::Host, ms(10));
        let parked = marks.times();
        assert_eq!((parked.of(Mark::Granted), parked.of(Mark::Called)), (None, None));
        marks.set(Mark::Granted, ms(30));
        let times = marks.take();
        assert_eq!((times.of(Mark::Placed), times.of(Mark::Granted)), (Some(1_000), Some(30_000)));
        assert_eq!((times.parked_us, times.retries), ([20_000, 0, 0], 1));
        assert_eq!(marks.take(), Times::default());
    }

    #[test]
    fn a_mark_at_once_is_one_and_a_long_call_has_a_last_one() {
        let marks = Marks::default();
        marks.set(Mark::Placed, Duration::ZERO);
        marks.set(Mark::Granted, Duration::MAX);
        let times = marks.times();
        assert_eq!((times.of(Mark::Placed), times.of(Mark::Granted)), (Some(1), Some(u32::MAX)));
    }
}
