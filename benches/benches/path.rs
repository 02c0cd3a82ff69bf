//! The whole path in this process: from admission to the reply, without sockets.
//!
//! 64 callers call 1,000 actors in a pseudo-random order; the host returns at once with a new state of 256 bytes. The reference
//! is a minimal actor: a task with a bounded channel and a oneshot for the reply, which runs the same user function. Every count
//! is checked: counts grow from call to call, and their sum equals the number of calls, in memory and on the disk after the store
//! was closed. `cargo bench -p tidegate-benches -- path [--quick] [FILTER]`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_benches::callers::call_at_random;
use tidegate_benches::counter::increment;
use tidegate_benches::harness::{Bench, Unit, case};
use tidegate_benches::options::Options;
use tidegate_benches::world::{Keep, World, counted_on_disk};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::rules::Durability;
use tidegate_stages::state::Any;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

const ACTORS: u64 = 1000;

pub(crate) fn run(options: &Options) {
    let bench = Bench::new("invocation", Unit::Microseconds, options.clone());
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let hop = Arc::new(bench.block_on(async { Hop::start() }));
    let worlds: Vec<Kept> = [
        ("memory, acknowledged", Durability::Acknowledged, None),
        ("memory, snapshot", Durability::Snapshot, None),
        ("embedded, acknowledged", Durability::Acknowledged, Some(disk.path().join("one"))),
        ("embedded, snapshot", Durability::Snapshot, Some(disk.path().join("other"))),
    ]
    .map(|(name, durability, directory)| {
        let keep =
            directory.clone().map_or_else(|| Keep::Memory(MemoryStore::new()), Keep::Embedded);
        let world = bench.block_on(async move {
            let world = World::open(keep, durability, ACTORS).await;
            world.spawn().await;
            world
        });
        Kept { name, directory, world }
    })
    .into();

    let called = Arc::clone(&hop);
    let mut cases = vec![case("reference: bare mpsc + oneshot hop", move |calls| {
        let hop = Arc::clone(&called);
        call_at_random(ACTORS, calls, move |actor| Arc::clone(&hop).call(actor))
    })];
    for Kept { name, world, .. } in &worlds {
        let world = Arc::clone(world);
        cases.push(case(name, move |calls| Arc::clone(&world).call_at_random(calls)));
    }
    bench.group(cases);

    bench.block_on(Arc::into_inner(hop).expect("nobody else has it").end());
    for Kept { directory, world, .. } in worlds {
        let calls = world.calls();
        bench.block_on(world.close());
        if let Some(directory) = directory {
            let found = bench.block_on(async move { counted_on_disk(&directory, ACTORS).await });
            assert_eq!(found, calls, "counts on the disk");
        }
    }
    syncs(disk.path(), bench.options().clone());
}

struct Kept {
    name: &'static str,
    directory: Option<std::path::PathBuf>,
    world: Arc<World>,
}

/// Measures the disk alone: one small write and one `fdatasync`, repeated.
fn syncs(directory: &Path, options: Options) {
    let path = directory.join("syncs");
    let bench = Bench::new("fdatasync", Unit::Microseconds, options);
    bench.run("this disk: append 4 KiB and fdatasync, alone", move |operations| {
        let path = path.clone();
        async move {
            let append = move || {
                let mut file = std::fs::File::create(path)?;
                for _ in 0..operations {
                    file.write_all(&[7; 4096])?;
                    file.sync_data()?;
                }
                Ok::<_, std::io::Error>(())
            };
            let appended = tokio::task::spawn_blocking(append).await.expect("does not panic");
            appended.expect("the disk takes it");
        }
    });
}

type Question = oneshot::Sender<u64>;

/// Actors as bare tasks: one channel each, one oneshot per call.
struct Hop {
    inboxes: Vec<mpsc::Sender<Question>>,
    actors: JoinSet<u64>,
    calls: AtomicU64,
}

impl Hop {
    fn start() -> Hop {
        let mut actors = JoinSet::new();
        let inboxes = (0..ACTORS).map(|actor| {
            let (inbox, mut questions) = mpsc::channel::<Question>(64);
            actors.spawn(async move {
                let (mut count, mut state): (u64, Option<Any>) = (0, None);
                while let Some(question) = questions.recv().await {
                    let (counted, new) = increment(actor, state.as_ref());
                    (count, state) = (counted, Some(new));
                    question.send(count).expect("the caller waits");
                }
                count
            });
            inbox
        });
        let inboxes = inboxes.collect();
        Hop { inboxes, actors, calls: AtomicU64::new(0) }
    }

    async fn call(self: Arc<Hop>, actor: u64) -> u64 {
        let (question, answer) = oneshot::channel();
        let inbox = &self.inboxes[usize::try_from(actor).expect("one of the actors")];
        inbox.send(question).await.expect("the actor runs");
        self.calls.fetch_add(1, Ordering::Relaxed);
        answer.await.expect("an answer")
    }

    async fn end(self) {
        drop(self.inboxes);
        let counted: u64 = self.actors.join_all().await.into_iter().sum();
        assert_eq!(counted, self.calls.into_inner(), "calls that were counted");
    }
}
