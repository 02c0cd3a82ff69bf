//! Hot: the actors that have made the most calls, taken the most time and moved the most bytes of late.
//!
//! Each turn that ends is noted once ([`Hot::turn`]). There is a table of [`ENTRIES`] actors per measure, so memory does not grow
//! with the number of actors; what that costs in exactness is said with each figure ([`space_saving`]).
//!
//! *Of late*: counts begin anew every minute ([`WINDOW`]), and what is told is the sum of this minute and of the last one. So an
//! actor that was busy an hour ago is not hot.
//!
//! A turn is noted in a buffer of its actor's [stripe](STRIPES), under a lock that hardly anybody else wants; the tables take a
//! whole buffer at once.

mod space_saving;

use std::array;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::actor::ActorRef;
use space_saving::{Counted, SpaceSaving, Together};

/// Actors in the table of a measure.
pub(crate) const ENTRIES: usize = 1_000;

/// How long turns are counted in the same tables.
const WINDOW: Duration = Duration::from_mins(1);

/// Buffers that turns are noted in, by the hash of their actor.
const STRIPES: usize = 16;

/// Turns in a buffer.
const NOTED: usize = 64;

/// Turns in one buffer ended within this time of each other.
const SAME_TIME: Duration = Duration::from_secs(1);

/// What is counted of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Calls.
    Calls,
    /// Time of turns, in microseconds.
    Time,
    /// Bytes that turns gave the store to write, and answered.
    Bytes,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    /// 1 for a call, 0 for what the mesh does itself with the actor.
    pub(crate) calls: u64,
    pub(crate) took: Duration,
    pub(crate) bytes: u64,
}

/// Tables and buffers; see the [module](self). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stripes: [Mutex<Noted>; STRIPES],
    /// Taken after the lock of a stripe, never before.
    tables: Mutex<Tables>,
}

impl Default for Inner {
    fn default() -> Self {
        let tables = Mutex::new(Tables::new(Instant::now()));
        Self { stripes: array::from_fn(|_| Mutex::default()), tables }
    }
}

/// Turns that no table has yet.
#[derive(Debug, Default)]
struct Noted {
    /// When the first of them ended.
    since: Option<Instant>,
    turns: Vec<(ActorRef, Weights)>,
}

/// The tables of a minute, one per measure.
#[derive(Debug)]
struct Minute {
    began: Instant,
    calls: SpaceSaving<ActorRef>,
    time: SpaceSaving<ActorRef>,
    bytes: SpaceSaving<ActorRef>,
}

/// This minute and the last one.
#[derive(Debug)]
struct Tables {
    now: Minute,
    last: Minute,
}

/// The heaviest actors by one measure.
#[derive(Debug)]
pub(crate) struct Heaviest {
    /// How long turns were counted.
    pub(crate) covers: Duration,
    /// What all actors come to.
    pub(crate) total: u64,
    /// The most that an actor comes to that is not among them, unless it was left out by the limit.
    pub(crate) others_at_most: u64,
    /// The heaviest first.
    pub(crate) actors: Vec<Counted<ActorRef>>,
}

impl Hot {
    /// Notes a turn that has ended now.
    pub(crate) fn turn(&self, actor: &ActorRef, weights: Weights, now: Instant) {
        let Inner { stripes, tables } = &*self.0;
        let place = usize::try_from(actor.precomputed_hash() % STRIPES as u64);
        let stripe = place.ok().and_then(|place| stripes.get(place)).expect("a remainder of 16");
        let mut noted = stripe.lock();
        let is_full = noted.turns.len() >= NOTED;
        let is_old =
            noted.since.is_some_and(|since| now.saturating_duration_since(since) > SAME_TIME);
        if is_full || is_old {
            tables.lock().take(&mut noted, now);
        }
        noted.since.get_or_insert(now);
        noted.turns.push((actor.clone(), weights));
    }

    /// The heaviest actors by a measure, at most so many.
    pub(crate) fn heaviest(&self, measure: Measure, limit: usize, now: Instant) -> Heaviest {
        for stripe in &self.0.stripes {
            let mut noted = stripe.lock();
            self.0.tables.lock().take(&mut noted, now);
        }
        let (together, covers) = {
            let mut tables = self.0.tables.lock();
            tables.turn_over(now);
            let Tables { now: this, last } = &*tables;
            let together = this.of(measure).together(last.of(measure));
            (together, now.saturating_duration_since(last.began))
        };
        let Together { total, others_at_most, entries: mut actors } = together;
        actors.sort_by(|one, other| {
            let by_count = (other.count, one.error).cmp(&(one.count, other.error));
            by_count.then_with(|| name(&one.key).cmp(&name(&other.key)))
        });
        actors.truncate(limit);
        Heaviest { covers, total, others_at_most, actors }
    }
}

fn name(actor: &ActorRef) -> (&str, &str) {
    (actor.system(), actor.name())
}

impl Minute {
    fn new(began: Instant) -> Self {
        let table = || SpaceSaving::new(ENTRIES);
        Self { began, calls: table(), time: table(), bytes: table() }
    }

    fn of(&self, measure: Measure) -> &SpaceSaving<ActorRef> {
        match measure {
            Measure::Calls => &self.calls,
            Measure::Time => &self.time,
            Measure::Bytes => &self.bytes,
        }
    }

    fn add(&mut self, actor: &ActorRef, weights: Weights) {
        self.calls.add(actor, weights.calls);
        let micros = u64::try_from(weights.took.as_micros()).unwrap_or(u64::MAX);
        self.time.add(actor, micros);
        self.bytes.add(actor, weights.bytes);
    }

    fn begin(&mut self, at: Instant) {
        self.began = at;
        self.calls.clear();
        self.time.clear();
        self.bytes.clear();
    }
}

impl Tables {
    fn new(now: Instant) -> Self {
        Self { now: Minute::new(now), last: Minute::new(now) }
    }

    /// Begins a new minute when this one is over.
    fn turn_over(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.now.began);
        if age < WINDOW {
            return;
        }
        mem::swap(&mut self.now, &mut self.last);
        if age < 2 * WINDOW {
            // The minute that has ended lasted until the next one began, on time.
            self.now.begin(self.last.began + WINDOW);
        } else {
            // Nothing has ended in the last minute.
            self.last.begin(now - WINDOW);
            self.now.begin(now);
        }
    }

    /// Adds turns to the minute in which they ended, and empties their buffer. Those of earlier minutes than the last are
    /// forgotten.
    fn take(&mut self, noted: &mut Noted, now: Instant) {
        let Some(since) = noted.since.take() else { return };
        self.turn_over(now);
        let minute = if since >= self.now.began {
            Some(&mut self.now)
        } else if since >= self.last.began {
            Some(&mut self.last)
        } else {
            None
        };
        let turns = noted.turns.drain(..);
        if let Some(minute) = minute {
            turns.for_each(|(actor, weights)| minute.add(&actor, weights));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn call(took_us: u64, bytes: u64) -> Weights {
        Weights { calls: 1, took: Duration::from_micros(took_us), bytes }
    }

    fn told(hot: &Hot, measure: Measure) -> Vec<(String, u64, u64)> {
        let found = hot.heaviest(measure, 10, Instant::now());
        let told = |of: &Counted<ActorRef>| (of.key.name().to_owned(), of.count, of.error);
        found.actors.iter().map(told).collect()
    }

    fn line(name: &str, count: u64) -> (String, u64, u64) {
        (name.to_owned(), count, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn each_measure_has_its_own_order_and_its_total() {
        let (hot, now) = (Hot::default(), Instant::now());
        let [many, slow, large] = ["many", "slow", "large"].map(|name| ActorRef::new("s", name));
        for _ in 0..1_000 {
            hot.turn(&many, call(10, 1), now);
        }
        hot.turn(&slow, call(2_000_000, 0), now);
        hot.turn(&large, call(20, 1 << 20), now);
        hot.turn(&large, Weights { calls: 0, ..call(5, 1 << 20) }, now);
        let calls = [line("many", 1_000), line("large", 1), line("slow", 1)];
        assert_eq!(told(&hot, Measure::Calls), calls);
        let time = [line("slow", 2_000_000), line("many", 10_000), line("large", 25)];
        assert_eq!(told(&hot, Measure::Time), time);
        assert_eq!(told(&hot, Measure::Bytes), [line("large", 2 << 20), line("many", 1_000)]);
        let two = hot.heaviest(Measure::Calls, 2, Instant::now());
        assert_eq!((two.actors.len(), two.total, two.others_at_most), (2, 1_002, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_two_minutes_is_not_told() {
        let (hot, joe, ann) =
            (Hot::default(), ActorRef::new("s", "joe"), ActorRef::new("s", "ann"));
        let turn = |actor| hot.turn(actor, call(1, 1), Instant::now());
        turn(&joe);
        advance(Duration::from_secs(59)).await;
        turn(&joe);
        // It stays in its buffer until somebody asks, and counts for the minute in which it ended.
        advance(Duration::from_secs(30)).await;
        turn(&ann);
        assert_eq!(told(&hot, Measure::Calls), [line("joe", 2), line("ann", 1)]);
        assert_eq!(hot.heaviest(Measure::Calls, 1, Instant::now()).covers.as_secs(), 89);
        advance(Duration::from_secs(31)).await;
        assert_eq!(told(&hot, Measure::Calls), [line("ann", 1)]);
        assert_eq!(hot.heaviest(Measure::Calls, 1, Instant::now()).covers.as_secs(), 60);
        turn(&joe);
        advance(Duration::from_hours(1)).await;
        assert_eq!(told(&hot, Measure::Calls), []);
        turn(&joe);
        assert_eq!(told(&hot, Measure::Calls), [line("joe", 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn tables_and_buffers_stay_at_their_bounds_with_a_hundred_thousand_actors() {
        let hot = Hot::default();
        let heavy = ActorRef::new("s", "heavy");
        for minute in 0..3 {
            for number in 0..100_000 {
                let actor = ActorRef::new("s", &format!("actor-{minute}-{number}"));
                hot.turn(&actor, call(7, 3), Instant::now());
                if number % 10 == 0 {
                    hot.turn(&heavy, call(70, 30), Instant::now());
                }
            }
            advance(WINDOW).await;
        }
        for stripe in &hot.0.stripes {
            assert!(stripe.lock().turns.capacity() <= 2 * NOTED);
        }
        let found = hot.heaviest(Measure::Calls, usize::MAX, Instant::now());
        assert!((ENTRIES..=2 * ENTRIES).contains(&found.actors.len()), "{}", found.actors.len());
        for (measure, weight) in [(Measure::Calls, 1), (Measure::Time, 70), (Measure::Bytes, 30)] {
            let found = hot.heaviest(measure, usize::MAX, Instant::now());
            assert!(found.actors.len() <= 2 * ENTRIES);
            let first = found.actors.first().unwrap();
            assert_eq!(first.key, heavy);
            // Of the last minute; this one has just begun.
            let true_count = 10_000 * weight;
            assert!(first.count - first.error <= true_count && true_count <= first.count);
            assert!(first.error <= found.total / 1_000, "{first:?} of {}", found.total);
        }
    }
}
