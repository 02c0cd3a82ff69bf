//! Histories: fills a long one and a short one, and reads them in parts and as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_benches::counter::mix;
use tidegate_benches::harness::{Bench, Case, case};
use tidegate_benches::store::history::History;
use tidegate_benches::usage::cpu;
use tidegate_stages::ports::StateStore;
use tokio::time::Instant;

/// Revisions of the short history.
pub(crate) const SHORT: u64 = 1_000;
/// Revisions per step; the time limit for a hanging bench applies to each step.
const STRETCH: u64 = 50_000;

fn pair(store: &Arc<dyn StateStore>, revisions: u64) -> (History, History) {
    let of = |actor, revisions| History::new(Arc::clone(store), actor, revisions);
    (of(0, SHORT), of(1, revisions))
}

/// Fills both histories, the short one in the middle of the long one.
pub(crate) fn fill(bench: &Bench, store: &Arc<dyn StateStore>, revisions: u64) {
    let (short, long) = pair(store, revisions);
    let (started, cpu_before) = (Instant::now(), cpu());
    for first in (1..=revisions).step_by(usize::try_from(STRETCH).expect("small")) {
        let last = revisions.min(first + STRETCH - 1);
        let (short, long) = (short.clone(), long.clone());
        bench.block_on(async move {
            long.append(first..=last).await;
            if (first..=last).contains(&(revisions / 2)) {
                short.append(1..=SHORT).await;
            }
        });
    }
    let (seconds, spent) = (started.elapsed().as_secs_f64(), cpu().saturating_sub(cpu_before));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each_us = |time: Duration| 1e6 * time.as_secs_f64() / (revisions + SHORT) as f64;
    println!(
        "appended {revisions} revisions in {seconds:.1} s, CPU {:.2} µs per revision",
        each_us(spent)
    );
}

/// Reads the whole long history, then parts of both.
pub(crate) fn read(bench: &Bench, store: &Arc<dyn StateStore>, revisions: u64) {
    let (short, long) = pair(store, revisions);
    for what in ["", ", again"] {
        let whole = long.clone();
        let grown = bench.block_on(async move { whole.read_whole().await });
        println!("all of it read as a stream{what}: memory grew by {} KiB", grown >> 10);
    }
    let reads = bench.table("read");
    reads.group([
        part(&short, 100),
        part(&long, 100),
        part(&long, 1_000),
        part(&long, (revisions / 100).clamp(2_000, 10_000)),
    ]);
    reads.group([at(&short), at(&long)]);
}

/// Reads an interval of `count` revisions.
fn part(history: &History, count: u64) -> Case {
    let name = format!("history: {count} of {} revisions", history.revisions());
    let (history, rounds) = (history.clone(), AtomicU64::new(0));
    case(&name, move |reads| {
        let (history, round) = (history.clone(), mix(rounds.fetch_add(1, Ordering::Relaxed)));
        async move {
            for read in 0..reads {
                history.read_part(count, mix(round ^ read)).await;
            }
        }
    })
}

/// Reads the newest revision at a time.
fn at(history: &History) -> Case {
    let name = format!("history: at a time, of {} revisions", history.revisions());
    let (history, rounds) = (history.clone(), AtomicU64::new(0));
    case(&name, move |reads| {
        let (history, round) = (history.clone(), mix(rounds.fetch_add(1, Ordering::Relaxed)));
        async move {
            for read in 0..reads {
                history.read_at(mix(round ^ read)).await;
            }
        }
    })
}
