//! Systems: follows which systems are registered here, for what is subscribed to for each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Bus, BusSubscription};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long to wait before a subscription that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Calls `begin` for each registered system, with what is cancelled when the last of its actors is gone, and with `leaving`.
pub(super) async fn follow(
    mesh: &Mesh,
    leaving: &CancellationToken,
    begin: impl Fn(String, CancellationToken),
) {
    let mut changes = mesh.watch_systems();
    let mut known: BTreeMap<String, CancellationToken> = BTreeMap::new();
    while !leaving.is_cancelled() {
        changes.mark_unchanged();
        let systems: BTreeSet<String> = mesh.systems().into_iter().collect();
        known.retain(|system, stop| {
            let stays = systems.contains(system);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for system in systems {
            known.entry(system).or_insert_with_key(|system| {
                let stop = leaving.child_token();
                begin(system.clone(), stop.clone());
                stop
            });
        }
        if let Some(Err(_)) = leaving.run_until_cancelled(changes.changed()).await {
            // The mesh is gone.
            return;
        }
    }
}

/// Subscribes, again and again until that succeeds. `None`: it was told to stop first.
pub(super) async fn subscribe(
    bus: &dyn Bus,
    subject: &str,
    queue: Option<&str>,
    stop: &CancellationToken,
) -> Option<Box<dyn BusSubscription>> {
    loop {
        match bus.subscribe(subject.to_owned(), queue.map(str::to_owned)).await {
            Ok(subscription) => return Some(subscription),
            Err(error) => warn!(subject, %error, "not subscribed yet"),
        }
        stop.run_until_cancelled(sleep(AGAIN)).await?;
    }
}
