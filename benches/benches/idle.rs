//! Idle actors: the memory of one, and the cost to activate it again.
//!
//! The memory is the growth of the process's resident memory over 100,000 actors, in a mesh whose store keeps nothing: first when
//! the actors are spawned, then when each has been called once and is in memory with a state of 256 bytes. The cost is that of an
//! actor's first call after a start, beside its next call. Every count is checked.
//! `cargo bench -p tidegate-benches -- idle [--quick] [weight | memory | embedded]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::Arc;

use tidegate_benches::callers::call_each;
use tidegate_benches::counter::state;
use tidegate_benches::harness::{Bench, Sample, Unit};
use tidegate_benches::options::Options;
use tidegate_benches::usage::resident;
use tidegate_benches::world::{Keep, World};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::rules::Durability;

/// Actors whose memory is measured.
const ACTORS: u64 = 100_000;

pub(crate) fn run(options: &Options) {
    let bench = Bench::new("invocation", Unit::Microseconds, options.clone());
    // First, because memory that was freed before would make the growth look smaller.
    if options.chooses("weight") {
        weigh(&bench);
    }
    if options.chooses("memory") {
        bring_back(&bench, "memory", &Keep::Memory(MemoryStore::new()));
    }
    if options.chooses("embedded") {
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        bring_back(&bench, "embedded", &Keep::Embedded(disk.path().join("store")));
    }
}

fn weigh(bench: &Bench) {
    let world = bench.block_on(World::open(Keep::Nowhere, Durability::Snapshot, ACTORS));
    let empty = resident();
    let spawning = Arc::clone(&world);
    bench.block_on(async move { spawning.spawn().await });
    let spawned = resident();
    let first = pass(bench, &world, ACTORS, 1);
    bench.row("weight: first call of each of 100,000 actors", &[first]);
    let second = pass(bench, &world, ACTORS, 2);
    bench.row("weight: second call", &[second]);
    let live = resident();
    let each = |bytes: u64| bytes.saturating_sub(empty) / ACTORS;
    println!(
        "resident: {} KiB before, {} KiB spawned, {} KiB live",
        empty >> 10,
        spawned >> 10,
        live >> 10
    );
    println!("weight of a spawned actor: {} bytes", each(spawned));
    println!(
        "weight of an idle live actor: {} bytes, {} of them state and type URL",
        each(live),
        state(0, 1).len()
    );
    bench.block_on(world.close());
}

/// Starts meshes on the same store, one after the other. The first call of each actor activates it; the next call finds it in
/// memory.
fn bring_back(bench: &Bench, name: &str, keep: &Keep) {
    let actors = if bench.options().quick { 2_000 } else { 20_000 };
    let (mut fresh, mut back, mut there) = (Vec::new(), Vec::new(), Vec::new());
    for start in 0..=u64::try_from(bench.options().rounds()).expect("a few") {
        let world = bench.block_on(World::open(keep.clone(), Durability::Snapshot, actors));
        if start == 0 {
            let spawning = Arc::clone(&world);
            bench.block_on(async move { spawning.spawn().await });
        }
        let first = pass(bench, &world, actors, 2 * start + 1);
        let firsts = if start == 0 { &mut fresh } else { &mut back };
        firsts.push(first);
        there.push(pass(bench, &world, actors, 2 * start + 2));
        bench.block_on(world.leave());
    }
    bench.row(&format!("{name}: first call ever"), &fresh);
    bench.row(&format!("{name}: first call after a start"), &back);
    bench.row(&format!("{name}: call of a live actor"), &there);
}

/// Calls each actor once, and checks that its count is `expected`.
fn pass(bench: &Bench, world: &Arc<World>, actors: u64, expected: u64) -> Sample {
    let world = Arc::clone(world);
    let calls = call_each(actors, expected, move |actor| {
        let world = Arc::clone(&world);
        async move { world.call(actor).await }
    });
    bench.measure(actors, calls)
}
