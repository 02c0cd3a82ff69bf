//! The stores: how fast they save and read, beside their bare engines, and what a long history costs.
//!
//! 10,000 actors with states of 256 bytes that cannot be compressed; 1, 64 and 1,024 hands, each with one save or read
//! under way; a save counts when it is durable. The reference of each group is the engine alone, which is given the same
//! batches. Then intervals of a history of 1,000,000 revisions beside those of one of 1,000, the room that it takes, the
//! time that the store needs to open with it, and the memory to read all of it. Everything that was saved is read back and
//! checked. `cargo bench -p tidegate-benches --bench store [-- [--quick] [--cql HOST:PORT] [saves | loads | history]]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_benches::counter::mix;
use tidegate_benches::harness::{Bench, Case, Unit, case};
use tidegate_benches::options::Options;
use tidegate_benches::store::crowd::Crowd;
use tidegate_benches::store::fjalled::Fjalled;
use tidegate_benches::store::history::History;
use tidegate_benches::store::keeper::Keeper;
use tidegate_benches::store::ported::{Ported, open_embedded};
use tidegate_benches::usage::cpu;
use tidegate_stages::ports::StateStore;
use tokio::time::Instant;

/// Hands at once.
const HANDS: [u64; 3] = [1, 64, 1_024];
/// Many and short: a disk that is shared is slow for a moment, and the rounds of a pair see the same moment.
const ROUNDS: (usize, Duration) = (41, Duration::from_millis(150));
/// Revisions of the short history.
const SHORT: u64 = 1_000;
/// Revisions written between two looks at the clock that ends a bench which hangs.
const STRETCH: u64 = 50_000;

fn main() {
    let options = Options { rounds: Some(ROUNDS), ..Options::from_args() };
    let bench = Bench::new("save", Unit::Microseconds, options.clone());
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    if wants(&options, "saves") || wants(&options, "loads") {
        println!("\n# embedded store, beside its engine");
        embedded(&bench, disk.path());
    }
    if wants(&options, "history") {
        println!("\n# embedded store, a long history");
        let directory = disk.path().join("history");
        long_history(&bench, &directory);
    }
    match &options.cql {
        Some(address) => println!("\n# CQL store at {address}: left out"),
        None => println!("\n# CQL store: left out, no server was named (--cql HOST:PORT)"),
    }
}

/// Whether one of the cases whose names begin with this is to run.
fn wants(options: &Options, part: &str) -> bool {
    part.contains(&options.filter) || options.filter.starts_with(part)
}

fn embedded(bench: &Bench, disk: &Path) {
    let (raw, ours) = (disk.join("raw"), disk.join("ours"));
    let opened = raw.clone();
    let engine = bench.block_on(async move { Crowd::gather(Fjalled::open(&opened)).await });
    let opened = ours.clone();
    let (store, crowd) = bench.block_on(async move {
        let store = open_embedded(&opened).await;
        let crowd = Crowd::gather(Ported::claim(store.clone()).await).await;
        (store, crowd)
    });
    against_each_other(bench, &engine, &crowd);
    let engine = Arc::into_inner(engine).expect("nobody else has it");
    let crowd = Arc::into_inner(crowd).expect("nobody else has it");
    bench.block_on(async move {
        store.close().await.expect("the store closes");
        drop(store);
        let open = async || Ported::claim(open_embedded(&ours).await).await;
        Arc::new(crowd.reopen(open).await).verify().await;
        let open = async || Fjalled::open(&raw);
        Arc::new(engine.reopen(open).await).verify().await;
    });
}

/// Saves and loads at all concurrencies, the bare engine first in each group.
fn against_each_other<A: Keeper, B: Keeper>(
    saves: &Bench,
    engine: &Arc<Crowd<A>>,
    store: &Arc<Crowd<B>>,
) {
    for (append, what) in [(false, "head"), (true, "head and revision")] {
        for hands in HANDS {
            let name = format!("saves, {what}, {hands} at once");
            saves.group([
                saving(&format!("{name}: engine"), engine, hands, append),
                saving(&format!("{name}: store"), store, hands, append),
            ]);
        }
    }
    let loads = saves.table("load");
    for hands in HANDS {
        let name = format!("loads, head, {hands} at once");
        loads.group([
            loading(&format!("{name}: engine"), engine, hands),
            loading(&format!("{name}: store"), store, hands),
        ]);
    }
    for hands in HANDS {
        let name = format!("loads, revision, {hands} at once");
        loads.group([
            loading_revisions(&format!("{name}: engine"), engine, hands),
            loading_revisions(&format!("{name}: store"), store, hands),
        ]);
    }
}

fn saving<K: Keeper>(name: &str, crowd: &Arc<Crowd<K>>, hands: u64, append: bool) -> Case {
    let crowd = Arc::clone(crowd);
    case(name, move |saves| Arc::clone(&crowd).save_at_random(hands, saves, append))
}

fn loading<K: Keeper>(name: &str, crowd: &Arc<Crowd<K>>, hands: u64) -> Case {
    let crowd = Arc::clone(crowd);
    case(name, move |loads| Arc::clone(&crowd).load_at_random(hands, loads))
}

fn loading_revisions<K: Keeper>(name: &str, crowd: &Arc<Crowd<K>>, hands: u64) -> Case {
    let crowd = Arc::clone(crowd);
    case(name, move |loads| Arc::clone(&crowd).load_revisions_at_random(hands, loads))
}

fn long_history(bench: &Bench, directory: &Path) {
    let quick = bench.options().quick;
    let long = if quick { 50_000 } else { 1_000_000 };
    let opened = directory.to_owned();
    let store = bench.block_on(async move { open_embedded(&opened).await });
    let (started, cpu_before) = (Instant::now(), cpu());
    let [short, long] = fill(bench, store.clone(), long);
    let (seconds, spent) = (started.elapsed().as_secs_f64(), cpu().saturating_sub(cpu_before));
    let revisions = long.revisions();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each_us = |time: Duration| 1e6 * time.as_secs_f64() / (revisions + SHORT) as f64;
    println!(
        "appended {revisions} revisions in {seconds:.1} s, CPU {:.2} µs per revision",
        each_us(spent)
    );
    drop((short, long));
    bench.block_on(async move { store.close().await.expect("the store closes") });
    println!("on disk: {} bytes per revision", occupied(directory) / (revisions + SHORT));

    let mut opens: Vec<(Duration, Duration)> = Vec::new();
    for _ in 0..3 {
        let opened = directory.to_owned();
        let (started, cpu_before) = (Instant::now(), cpu());
        let store = bench.block_on(async move { open_embedded(&opened).await });
        opens.push((started.elapsed(), cpu().saturating_sub(cpu_before)));
        bench.block_on(async move { store.close().await.expect("the store closes") });
    }
    opens.sort_unstable();
    let (time, cpu_time) = opens[opens.len() / 2];
    println!(
        "opens in {:.1} ms, CPU {:.1} ms",
        1e3 * time.as_secs_f64(),
        1e3 * cpu_time.as_secs_f64()
    );

    let opened = directory.to_owned();
    let store = bench.block_on(async move { open_embedded(&opened).await });
    let histories = [(0, SHORT), (1, revisions)];
    let [short, long] = histories.map(|(actor, count)| History::new(store.clone(), actor, count));
    let whole = long.clone();
    let grown = bench.block_on(async move { whole.read_whole().await });
    println!("all of it read as a stream: memory grew by {} KiB", grown >> 10);
    intervals(bench, &short, &long);
    drop((short, long));
    bench.block_on(async move { store.close().await.expect("the store closes") });
}

/// The short history in the middle of the long one.
fn fill(bench: &Bench, store: Arc<dyn StateStore>, revisions: u64) -> [History; 2] {
    let short = History::new(Arc::clone(&store), 0, SHORT);
    let long = History::new(store, 1, revisions);
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
    [short, long]
}

/// Parts of both histories; what they cost follows from their own size.
fn intervals(bench: &Bench, short: &History, long: &History) {
    let reads = bench.table("read");
    let of = |history: &History, count: u64| {
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
    };
    reads.group([of(short, 100), of(long, 100), of(long, 1_000), of(long, 10_000)]);
    let at = |history: &History| {
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
    };
    reads.group([at(short), at(long)]);
}

/// What a directory takes on its device, in bytes.
fn occupied(directory: &Path) -> u64 {
    let entries = directory.read_dir().expect("it is there");
    let sizes = entries.map(|entry| {
        let entry = entry.expect("it can be read");
        let metadata = entry.metadata().expect("it is there");
        let inside = if metadata.is_dir() { occupied(&entry.path()) } else { 0 };
        512 * metadata.blocks() + inside
    });
    sizes.sum()
}
