//! Ticks: which tick of which timer is due next. Pure: it is told the time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::actor::{Definition, Timer};
use crate::registry::entry::Entry;
use crate::reply::SignalHandle;

/// The timers that run, in the order of their next ticks. Times are in milliseconds.
#[derive(Debug)]
pub(super) struct Ticks {
    heap: BinaryHeap<Reverse<Next>>,
    actors: Vec<Option<Ticking>>,
    /// Places in `actors` that are free.
    free: Vec<u32>,
    /// Counts the actors that were ever added, so that a tick of an earlier one in the same place is recognised.
    added: u64,
    running: usize,
    most: usize,
}

/// One actor whose timers run.
#[derive(Debug)]
struct Ticking {
    number: u64,
    entry: Arc<Entry>,
    /// The [`ticks_ended`](Entry::ticks_ended) of the entry when they were started.
    ended: u32,
    definition: Arc<Definition>,
    /// For each timer the call of its last tick, until that is seen to have ended.
    calls: Box<[Option<SignalHandle>]>,
}

impl Ticking {
    /// Whether its actor was deleted since. If it was called after that, its timers were added anew.
    fn has_ended(&self) -> bool {
        self.ended != self.entry.ticks_ended.load(Ordering::Acquire)
    }
}

/// The next tick of one timer. Ordered by time, then by `spread`: of those that are due together, not always the same come
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    due_ms: u64,
    spread: u32,
    place: u32,
    timer: u32,
    number: u64,
}

/// A tick that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) entry: Arc<Entry>,
    /// The [`ticks_ended`](Entry::ticks_ended) of the entry when its timers were started.
    pub(super) ended: u32,
    definition: Arc<Definition>,
    next: Next,
}

impl Due {
    /// Whether the actor's definition has other timers by now.
    pub(super) fn is_replaced(&self, now: &Arc<Definition>) -> bool {
        !Arc::ptr_eq(&self.definition, now) && self.definition.timers != now.timers
    }

    /// The action to call.
    pub(super) fn action(&self) -> &str {
        self.timer().map_or("", |timer| &timer.action)
    }

    fn timer(&self) -> Option<&Timer> {
        self.definition.timers.get(self.next.timer as usize)
    }

    fn period_ms(&self) -> u64 {
        self.timer().map_or(1, period_ms)
    }
}

/// The period of a timer; one of zero would never let another tick come.
fn period_ms(timer: &Timer) -> u64 {
    u64::try_from(timer.period.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Ticks {
    /// Holds at most that many timers.
    pub(super) fn new(most: usize) -> Self {
        let (heap, actors, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { heap, actors, free, added: 0, running: 0, most }
    }

    /// Starts the timers of an actor: the first tick of each comes after its period. Returns false when there are too many.
    pub(super) fn add(
        &mut self,
        (entry, ended): (&Arc<Entry>, u32),
        definition: &Arc<Definition>,
        now_ms: u64,
    ) -> bool {
        let count = definition.timers.len();
        let place = self.free.last().copied().map_or_else(|| u32::try_from(self.actors.len()), Ok);
        let (Ok(place), true) = (place, self.running + count <= self.most) else { return false };
        if self.free.pop().is_none() {
            self.actors.push(None);
        }
        self.added += 1;
        self.running += count;
        let number = self.added;
        for (timer, of) in (0..).zip(&definition.timers) {
            self.push(Next {
                due_ms: now_ms.saturating_add(period_ms(of)),
                spread: 0,
                place,
                timer,
                number,
            });
        }
        let calls = std::iter::repeat_with(|| None).take(count).collect();
        if let Some(free) = self.actors.get_mut(place as usize) {
            let (entry, definition) = (entry.clone(), definition.clone());
            *free = Some(Ticking { number, entry, ended, definition, calls });
        }
        true
    }

    fn push(&mut self, next: Next) {
        let of_time = u32::try_from(next.due_ms & u64::from(u32::MAX)).unwrap_or_default();
        let spread = (next.place ^ of_time).wrapping_mul(0x9E37_79B9);
        self.heap.push(Reverse(Next { spread, ..next }));
    }

    /// When the next tick is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(next)| next.due_ms)
    }

    /// Takes the next tick that is due. Its timer stops unless [`wait_for_next`](Self::wait_for_next) is called.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Due> {
        while self.next_due().is_some_and(|due| due <= now_ms) {
            let Reverse(next) = self.heap.pop()?;
            if let Some(ticking) = self.of(&next) {
                if ticking.has_ended() {
                    self.vacate(next.place);
                    continue;
                }
                let (entry, definition) = (ticking.entry.clone(), ticking.definition.clone());
                return Some(Due { entry, ended: ticking.ended, definition, next });
            }
        }
        None
    }

    /// Lets the timer of a tick go on. Returns how many ticks were missed after this one.
    pub(super) fn wait_for_next(&mut self, due: &Due, now_ms: u64) -> u64 {
        let period = due.period_ms();
        let missed = now_ms.saturating_sub(due.next.due_ms) / period;
        let due_ms = due.next.due_ms.saturating_add(period.saturating_mul(missed + 1));
        self.push(Next { due_ms, ..due.next });
        missed
    }

    /// Whether the call of the timer's last tick still runs.
    pub(super) fn is_running(&self, due: &Due) -> bool {
        let calls = self.of(&due.next).map(|ticking| &ticking.calls);
        let call = calls.and_then(|calls| calls.get(due.next.timer as usize));
        call.is_some_and(|call| call.as_ref().is_some_and(|call| !call.is_ended()))
    }

    /// Notes the call of a tick.
    pub(super) fn runs(&mut self, due: &Due, call: SignalHandle) {
        let (place, timer) = (due.next.place as usize, due.next.timer as usize);
        if let Some(Some(ticking)) = self.actors.get_mut(place)
            && let Some(last) = ticking.calls.get_mut(timer)
        {
            *last = Some(call);
        }
    }

    /// Ends all timers of the actor of a tick.
    pub(super) fn remove(&mut self, due: &Due) {
        if self.of(&due.next).is_some() {
            self.vacate(due.next.place);
        }
    }

    /// Ends the timers of all actors that are deleted or whose definition has other timers by now. Returns these actors.
    pub(super) fn take_changed(&mut self) -> Vec<(Arc<Entry>, u32)> {
        let mut changed = Vec::new();
        for place in 0..u32::try_from(self.actors.len()).unwrap_or(u32::MAX) {
            let Some(Some(ticking)) = self.actors.get_mut(place as usize) else { continue };
            let now = ticking.entry.spec().hosted.definition;
            if ticking.has_ended() {
                self.vacate(place);
            } else if ticking.entry.is_removed() || ticking.definition.timers != now.timers {
                changed.push((ticking.entry.clone(), ticking.ended));
                self.vacate(place);
            } else {
                ticking.definition = now;
            }
        }
        let actors = &self.actors;
        self.heap.retain(|Reverse(next)| of(actors, next).is_some());
        changed
    }

    fn vacate(&mut self, place: u32) {
        if let Some(ticking) = self.actors.get_mut(place as usize).and_then(Option::take) {
            self.running -= ticking.calls.len();
            self.free.push(place);
        }
    }

    fn of(&self, next: &Next) -> Option<&Ticking> {
        of(&self.actors, next)
    }
}

fn of<'a>(actors: &'a [Option<Ticking>], next: &Next) -> Option<&'a Ticking> {
    actors.get(next.place as usize)?.as_ref().filter(|ticking| ticking.number == next.number)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::actor::tests::definition;
    use crate::registry::directory::Directory;
    use crate::registry::entry::Source;

    fn timed(name: &str, periods: &[u64]) -> (Arc<Entry>, Arc<Definition>) {
        let timer =
            |ms: &u64| Timer { action: format!("every{ms}"), period: Duration::from_millis(*ms) };
        let timers = periods.iter().map(timer).collect();
        let definition = Arc::new(Definition { timers, ..definition(name) });
        let directory = Directory::new();
        let hosted = directory.hosted(definition.clone()).0;
        (directory.put(definition.id.clone().into(), Source::Defined(hosted)), definition)
    }

    fn ticks_until(ticks: &mut Ticks, end_ms: u64) -> Vec<(u64, String)> {
        let mut seen = Vec::new();
        for now_ms in 0..=end_ms {
            while let Some(due) = ticks.take_due(now_ms) {
                assert_eq!(ticks.wait_for_next(&due, now_ms), 0);
                seen.push((now_ms, due.action().to_owned()));
            }
        }
        seen
    }

    #[test]
    fn each_timer_ticks_at_its_own_rate() {
        let mut ticks = Ticks::new(2);
        let (entry, definition) = timed("a", &[3, 5]);
        assert!(ticks.add((&entry, 0), &definition, 0));
        let seen = ticks_until(&mut ticks, 10);
        let of = |period: u64| {
            let action = format!("every{period}");
            seen.iter().filter(|tick| tick.1 == action).map(|tick| tick.0).collect::<Vec<_>>()
        };
        assert_eq!((of(3), of(5)), (vec![3, 6, 9], vec![5, 10]));
    }

    #[test]
    fn after_a_delay_one_tick_catches_up_and_the_rate_stays() {
        let mut ticks = Ticks::new(1);
        let (entry, definition) = timed("a", &[10]);
        assert!(ticks.add((&entry, 0), &definition, 0));
        let late = ticks.take_due(57).unwrap();
        assert_eq!(ticks.wait_for_next(&late, 57), 4, "of 10, 20, 30, 40 and 50 one runs");
        assert!(ticks.take_due(57).is_none());
        assert_eq!(ticks.next_due(), Some(60));
    }

    #[test]
    fn a_period_of_zero_ticks_once_a_millisecond() {
        let mut ticks = Ticks::new(1);
        let (entry, definition) = timed("a", &[0]);
        assert!(ticks.add((&entry, 0), &definition, 0));
        assert_eq!(ticks_until(&mut ticks, 3).len(), 3);
    }

    #[test]
    fn timers_beyond_the_bound_are_refused_until_others_end() {
        let mut ticks = Ticks::new(3);
        let (first, definition) = timed("a", &[1, 2]);
        let (second, _) = timed("b", &[1, 2]);
        assert!(ticks.add((&first, 0), &definition, 0));
        assert!(!ticks.add((&second, 0), &definition, 0));
        let due = ticks.take_due(1).unwrap();
        ticks.remove(&due);
        assert!(ticks.add((&second, 0), &definition, 1));
        let due = ticks.take_due(2).unwrap();
        assert_eq!(due.entry.actor, second.actor, "ticks of the former actor are gone");
    }

    #[test]
    fn those_that_are_due_together_do_not_always_come_in_one_order() {
        let mut ticks = Ticks::new(64);
        for number in 0..64 {
            let (entry, definition) = timed(&format!("a{number}"), &[1_000]);
            assert!(ticks.add((&entry, 0), &definition, 0));
        }
        let mut first = std::collections::BTreeSet::new();
        for round in 1..=20 {
            let mut order = Vec::new();
            while let Some(due) = ticks.take_due(round * 1_000) {
                ticks.wait_for_next(&due, round * 1_000);
                order.push(due.entry.actor.name().to_owned());
            }
            assert_eq!(order.len(), 64);
            first.insert(order[0].clone());
        }
        assert!(first.len() > 5, "{first:?}");
    }

    /// What one actor's timer takes, the actor itself excepted, so that 100,000 take some ten megabytes.
    #[test]
    fn a_timer_takes_little_memory() {
        assert!(size_of::<Next>() + size_of::<Option<Ticking>>() <= 128);
    }
}
