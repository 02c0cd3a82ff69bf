//! Effects: what a call with one side effect to a stateful actor costs, beside a call without one.
//!
//! 64 callers call 1,000 sources, each of which calls one of 1,000 targets. A round ends when all its effects have reached their
//! hosts. The rounds take turns, so `ratio` (CPU) and `pace` compare the same moments. Two calls, one after the other, are what an
//! effect is at least: a second turn and a second commit. Every count is checked.
//! `cargo bench -p tidegate-benches -- effects [--quick] [FILTER]`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_benches::callers::call_at_random;
use tidegate_benches::counter::{DELIVERED, mix};
use tidegate_benches::harness::{Bench, Unit, case};
use tidegate_benches::options::Options;
use tidegate_benches::world::{Keep, World};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::rules::Durability;
use tokio::time::{sleep, timeout};

/// Sources, and as many targets.
const ACTORS: u64 = 1_000;
/// How long the last effects of a round may take.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn run(options: &Options) {
    let bench = Bench::new("call", Unit::Microseconds, options.clone());
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let kept = [
        ("memory", Keep::Memory(MemoryStore::new())),
        ("embedded", Keep::Embedded(disk.path().to_owned())),
    ];
    for (name, keep) in kept {
        let world = bench.block_on(async move {
            let world = World::open(keep, Durability::Acknowledged, 2 * ACTORS).await;
            world.spawn().await;
            world
        });
        let (plain, twice, emitting) = (Arc::clone(&world), Arc::clone(&world), Arc::clone(&world));
        bench.group(vec![
            case(&format!("{name}: without an effect"), move |calls| {
                let world = Arc::clone(&plain);
                call_at_random(ACTORS, calls, move |actor| {
                    let world = Arc::clone(&world);
                    async move { world.call(actor).await }
                })
            }),
            case(&format!("{name}: two calls"), move |calls| {
                let world = Arc::clone(&twice);
                call_at_random(ACTORS, calls, move |actor| {
                    let world = Arc::clone(&world);
                    async move {
                        world.call(target(actor)).await;
                        world.call(actor).await
                    }
                })
            }),
            case(&format!("{name}: with one effect"), move |calls| {
                with_effects(Arc::clone(&emitting), calls)
            }),
        ]);
        bench.block_on(world.close());
    }
}

/// Calls with an effect each, until all have arrived.
async fn with_effects(world: Arc<World>, calls: u64) {
    let all = DELIVERED.load(Ordering::Relaxed) + calls;
    call_at_random(ACTORS, calls, move |actor| {
        let world = Arc::clone(&world);
        async move { world.emit(actor, target(actor)).await }
    })
    .await;
    let arrived = timeout(LIMIT, async {
        while DELIVERED.load(Ordering::Relaxed) < all {
            sleep(Duration::from_millis(1)).await;
        }
    });
    arrived.await.expect("all effects arrive");
}

/// The target of a source.
fn target(actor: u64) -> u64 {
    ACTORS + mix(actor) % ACTORS
}
