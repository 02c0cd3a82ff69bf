//! Pool: idle connections per address, newest first.

use std::collections::HashMap;
use std::time::Duration;

use ::metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::actor::HostAddress;

use crate::metrics::IDLE_CONNECTIONS;
use tokio::time::Instant;

/// Idle connections by address. Callers take the newest, so when load falls the others grow old and are closed.
pub(super) struct Pool<T> {
    /// Each list is ordered by idle time, oldest first.
    idle: Mutex<HashMap<HostAddress, Vec<Idle<T>>, Seeded>>,
    /// How long a connection may stay idle.
    max_idle: Duration,
    /// Most idle connections per address.
    per_address: usize,
    count: Gauge,
}

struct Idle<T> {
    connection: T,
    since: Instant,
}

impl<T> Pool<T> {
    pub(super) fn new(max_idle: Duration, per_address: usize) -> Self {
        Self { idle: Mutex::default(), max_idle, per_address, count: gauge!(IDLE_CONNECTIONS) }
    }

    /// Takes the connection that was put back last, unless it was idle too long.
    pub(super) fn take(&self, address: &HostAddress) -> Option<T> {
        let newest = self.idle.lock().get_mut(address)?.pop()?;
        self.count.decrement(1);
        // When the newest is too old, all others are too; the next trim closes them.
        (newest.since.elapsed() <= self.max_idle).then_some(newest.connection)
    }

    /// Keeps a connection for the next call; closes it when the address has enough.
    pub(super) fn put(&self, address: &HostAddress, connection: T) {
        let idle = Idle { connection, since: Instant::now() };
        let mut addresses = self.idle.lock();
        // Only the first connection of an address clones the key.
        let refused = match addresses.get_mut(address) {
            Some(list) if list.len() >= self.per_address => Some(idle),
            Some(list) => {
                list.push(idle);
                None
            }
            None => {
                addresses.insert(address.clone(), vec![idle]);
                None
            }
        };
        drop(addresses);
        match refused {
            // The close is a system call; it runs without the lock.
            Some(refused) => drop(refused),
            None => self.count.increment(1),
        }
    }

    /// Closes connections that were idle too long, and removes addresses without connections.
    pub(super) fn trim(&self) {
        let mut old = Vec::new();
        self.idle.lock().retain(|_, list| {
            let fresh = list.partition_point(|idle| idle.since.elapsed() > self.max_idle);
            old.extend(list.drain(..fresh));
            !list.is_empty()
        });
        #[allow(clippy::cast_precision_loss, reason = "counts of connections are small")]
        self.count.decrement(old.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_newest_comes_first_and_the_old_are_closed() {
        let (pool, here) = (Pool::new(SECOND, 8), HostAddress::new("here:1"));
        pool.put(&here, "old");
        advance(SECOND / 2).await;
        pool.put(&here, "new");
        assert_eq!(pool.take(&here), Some("new"));
        advance(SECOND).await;
        assert_eq!(pool.take(&here), None, "one that has waited too long is not used");
        pool.put(&here, "kept");
        advance(SECOND).await;
        pool.trim();
        assert_eq!(pool.take(&here), Some("kept"));
        pool.put(&here, "trimmed");
        advance(SECOND * 2).await;
        pool.trim();
        assert!(pool.idle.lock().is_empty(), "an address without connections is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_bound_are_kept_and_addresses_do_not_mix() {
        let (pool, here, there) =
            (Pool::new(SECOND, 2), HostAddress::new("here:1"), HostAddress::new("there:1"));
        for number in 0..5 {
            pool.put(&here, number);
        }
        assert_eq!(pool.take(&there), None);
        assert_eq!(
            (pool.take(&here), pool.take(&here), pool.take(&here)),
            (Some(1), Some(0), None)
        );
    }
}
