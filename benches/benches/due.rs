//! Due work: a million calls for a later time in the embedded store.
//!
//! Printed: what storing them costs; memory and the time to open with them and without; then a start an hour after all of them
//! were due, and how long ordinary calls take while the backlog is worked off, beside the same calls without it. `get` is a turn
//! without host and without a write: what it takes is the wait for its turn. `increment` also waits for its commit.
//! `cargo bench -p tidegate-benches -- due [--quick]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::SystemClock;
use tidegate_benches::counter::mix;
use tidegate_benches::harness::{Bench, Unit};
use tidegate_benches::options::Options;
use tidegate_benches::usage::resident;
use tidegate_benches::world::{Keep, World};
use tidegate_stages::access::Policies;
use tidegate_stages::ports::Clock;
use tidegate_stages::rules::Durability;
use tidegate_stages::state::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Actors that are called later; as many others are called meanwhile.
const TARGETS: u64 = 1_000;
/// Calls that are being stored at once.
const AT_ONCE: usize = 512;
/// Callers of ordinary calls, and the pause of each after an answer.
const CALLERS: u64 = 16;
const PAUSE: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_hours(1);

/// A clock that is this much ahead.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let ahead = u64::try_from(self.0.as_micros()).expect("some hours");
        Timestamp(SystemClock.now().0 + ahead)
    }
}

pub(crate) fn run(options: &Options) {
    let entries = if options.quick { 20_000 } else { 1_000_000 };
    let time = if options.quick { Duration::from_millis(500) } else { Duration::from_secs(10) };
    let bench = Bench::new("call", Unit::Microseconds, options.clone());
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (none, full) = (disk.path().join("none"), disk.path().join("full"));
    fill(&bench, &none, 0);
    fill(&bench, &full, entries);
    println!();
    for (directory, entries) in [(&none, 0), (&full, entries)] {
        let (world, opened) = open(&bench, directory, Duration::ZERO);
        // Its task has read what it keeps in memory by then.
        bench.block_on(async { sleep(Duration::from_secs(1)).await });
        println!("{entries:>9} pending: opens in {opened:.1?}, {} MiB resident", resident() >> 20);
        bench.block_on(world.leave());
    }
    println!("\n{:<42} {:>10} {:>10} {:>10} {:>10}", "", "calls", "p50", "p99", "most");
    for (directory, entries) in [(&none, 0), (&full, entries)] {
        let (world, _) = open(&bench, directory, 2 * HOUR);
        let waiting = Arc::clone(&world);
        bench.block_on(async move {
            let (started, done) = (Instant::now(), early(&waiting, entries).await);
            println!("{entries:>9} due an hour ago: {done} made after {:.1?}", started.elapsed());
            let mut rows = Vec::new();
            for action in ["get", "increment"] {
                rows.push((action, latencies(&waiting, action, time).await));
            }
            let made = waiting.counted_of(0..TARGETS).await;
            for (action, latencies) in rows {
                print(&format!("{entries:>9} due: {action}"), latencies);
            }
            println!(
                "{entries:>9} due: {made} made after {:.1?}, {} MiB resident",
                started.elapsed(),
                resident() >> 20
            );
            assert!(made <= entries && made >= done, "each is made once");
        });
        bench.block_on(world.leave());
    }
}

/// How many of the backlog are made within the first fifth of a second.
async fn early(world: &World, entries: u64) -> u64 {
    if entries == 0 {
        return 0;
    }
    sleep(Duration::from_millis(200)).await;
    world.counted_of(0..TARGETS).await
}

fn open(bench: &Bench, directory: &Path, ahead: Duration) -> (Arc<World>, Duration) {
    let keep = Keep::Embedded(directory.to_owned());
    let started = Instant::now();
    let world = bench.block_on(async move {
        let clock = Arc::new(Ahead(ahead));
        let policies = Policies::default();
        World::timed(keep, Durability::Acknowledged, 2 * TARGETS, policies, clock).await
    });
    (world, started.elapsed())
}

/// Spawns the actors and stores so many calls, which are due in an hour.
fn fill(bench: &Bench, directory: &Path, entries: u64) {
    let (world, _) = open(bench, directory, Duration::ZERO);
    let spawning = Arc::clone(&world);
    bench.block_on(async move { spawning.spawn().await });
    let (empty, started) = (resident(), Instant::now());
    let at_ms = (Ahead(HOUR).now().0) / 1_000;
    // A bounded part at a time, because a part has to end within the harness's limit.
    for first in (0..entries).step_by(50_000) {
        let some = first..entries.min(first + 50_000);
        let world = Arc::clone(&world);
        bench.block_on(async move {
            let mut storing = JoinSet::new();
            for worker in 0..AT_ONCE {
                let (world, mine) = (Arc::clone(&world), some.clone());
                storing.spawn(async move {
                    for number in mine.skip(worker).step_by(AT_ONCE) {
                        // Spread over ten minutes.
                        let spread = mix(!number) % 600_000;
                        world.call_later(mix(number) % TARGETS, at_ms + spread).await;
                    }
                });
            }
            storing.join_all().await;
        });
    }
    if entries > 0 {
        let (took, grown) = (started.elapsed(), resident().saturating_sub(empty) >> 20);
        println!("{entries:>9} calls for later stored in {took:.1?}; {grown} MiB more resident");
    }
    bench.block_on(world.leave());
}

/// Calls actors that have no due work, for some time; returns how long each call took.
async fn latencies(world: &Arc<World>, action: &'static str, time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let world = Arc::clone(world);
        callers.spawn(async move {
            let (mut took, mut place) = (Vec::new(), caller);
            while Instant::now() < end {
                place = mix(place);
                let (actor, started) = (TARGETS + place % TARGETS, Instant::now());
                if action == "get" {
                    world.get(actor).await;
                } else {
                    world.call(actor).await;
                }
                took.push(started.elapsed());
                sleep(PAUSE).await;
            }
            took
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

fn print(name: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    let (calls, p50, p99, most) = (latencies.len(), at(50), at(99), at(100));
    println!("{name:<42} {calls:>10} {p50:>10.1?} {p99:>10.1?} {most:>10.1?}");
}
