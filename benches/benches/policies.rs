//! What access policies cost per call: the whole path in this process, as in `path`, without and with policy files.
//!
//! Each file names clients, actors and actions; the last one is that of the calls, and no other matches, so all
//! are looked at. Calls come from an anonymous client. `cargo bench -p tidegate-benches -- policies [--quick] [FILTER]`.

use std::sync::Arc;

use tidegate_benches::harness::{Bench, Unit, case};
use tidegate_benches::options::Options;
use tidegate_benches::world::{Keep, World};
use tidegate_stages::access::{Policies, Policy};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::rules::Durability;

const ACTORS: u64 = 1000;

pub(crate) fn run(options: &Options) {
    let bench = Bench::new("invocation", Unit::Microseconds, options.clone());
    let files = [
        ("reference: no policy file", 0),
        ("1 file", 1),
        ("10 files", 10),
        ("100 files", 100),
        ("1,000 files", 1_000),
    ];
    let worlds = files.map(|(name, count)| {
        let world = bench.block_on(async move {
            let keep = Keep::Memory(MemoryStore::new());
            let policies = policies(count);
            let world = World::guarded(keep, Durability::Snapshot, ACTORS, policies).await;
            world.spawn().await;
            world
        });
        (name, world)
    });
    let cases = worlds.iter().map(|(name, world)| {
        let world = Arc::clone(world);
        case(name, move |calls| Arc::clone(&world).call_at_random(calls))
    });
    bench.group(cases);
    for (_, world) in worlds {
        bench.block_on(world.close());
    }
}

/// So many policies, of which the last one allows the calls.
fn policies(count: usize) -> Policies {
    let texts = (1..=count).map(|number| {
        if number == count {
            String::from("type: allow\nidentities: [alice, *]\ntargets: benches/counter-*\nactions: [increment, get]\n")
        } else {
            format!(
                "type: allow\nidentities: [alice, *]\ntargets: [shop/cart-{number}, basket-*]\nactions: [increment, get]\n"
            )
        }
    });
    let policies = texts.map(|text| Policy::parse("bench.policy", &text).expect("a policy"));
    Policies::new(policies.collect())
}
