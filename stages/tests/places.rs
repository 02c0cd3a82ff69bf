//! Places at the checkpoint: no action runs for a change that has no place to go, and waiting holds no worker's slot.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]
#![allow(clippy::print_stdout, reason = "the numbers are what the test is for")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use support::*;
use tidegate_pipeline::Bound;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::StoreError;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

const PLACES: usize = 16;
const CLIENTS: usize = 200;

/// Clients that call their actors without end, and what became of their calls.
#[derive(Default)]
struct Load {
    ran: AtomicUsize,
    kept: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    fn lost(&self) -> usize {
        self.ran.load(SeqCst) - self.kept.load(SeqCst)
    }
}

/// A mesh with few places whose host counts the actions it runs, and clients that call it.
async fn under_load() -> (Arc<World>, Arc<Load>, Vec<tokio::task::JoinHandle<()>>) {
    let load = Arc::new(Load::default());
    let counting = load.clone();
    let host = host(move |invocation| {
        counting.ran.fetch_add(1, SeqCst);
        async move {
            sleep(Duration::from_millis(20)).await;
            Ok(counted(&invocation))
        }
    });
    let checkpoint = Bound { events: PLACES, bytes: 64 << 20 };
    let settings = Settings { checkpoint, ..Settings::default() };
    let world = Arc::new(world_with(host, settings, MemoryStore::new()).await);
    let names: Vec<_> = (0..CLIENTS).map(|client| format!("actor-{client}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    let clients = names.into_iter().map(|name| {
        let (world, load) = (world.clone(), load.clone());
        tokio::spawn(async move {
            while !load.is_over.load(SeqCst) {
                match world.add(&name).await {
                    Ok(_) => drop(load.kept.fetch_add(1, SeqCst)),
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        })
    });
    let clients = clients.collect();
    (world, load, clients)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_at_most_what_was_in_flight_when_the_store_failed() {
    let (world, load, clients) = under_load().await;
    sleep(Duration::from_secs(5)).await;
    let (ran, kept) = (load.ran.load(SeqCst), load.kept.load(SeqCst));
    println!("healthy: {ran} actions ran, {kept} kept");
    assert!(kept > 1_000, "{kept}");

    // Each commit takes longer than the calls that wait for a place have.
    for _ in 0..20 {
        world.store.fail_next_save(SaveFault::Late(Duration::from_secs(3)));
    }
    sleep(Duration::from_mins(1)).await;
    println!("slow: {} more ran, {} not kept yet", load.ran.load(SeqCst) - ran, load.lost());
    let slow = load.lost();

    world.store.hold_saves();
    sleep(Duration::from_mins(1)).await;
    let silent = load.lost();
    println!("silent: {silent} ran and are not kept");

    let error = StoreError::Unavailable("as the test wants it".into());
    world.store.refuse_saves(Some(error.clone()));
    world.store.refuse_loads(Some(error));
    world.store.release_saves();
    sleep(Duration::from_mins(1)).await;
    let failing = load.lost();
    println!("failing: {failing} ran and were not kept, of {PLACES} places");

    world.store.refuse_saves(None);
    world.store.refuse_loads(None);
    let before = load.kept.load(SeqCst);
    sleep(Duration::from_secs(5)).await;
    assert!(load.kept.load(SeqCst) > before + 1_000, "it goes on when the store works again");
    load.is_over.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    println!("in all: {} of {} actions were not kept", load.lost(), load.ran.load(SeqCst));
    assert!(slow <= PLACES, "slow: {slow}");
    assert!(silent <= PLACES, "silent: {silent}");
    assert!(failing <= PLACES, "failing: {failing}");
    assert!(load.lost() <= PLACES);
}
