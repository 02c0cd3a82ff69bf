//! Pool: connections that wait for their next call, per address, newest first.

use std::collections::HashMap;
use std::time::Duration;

use ::metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tidegate_stages::actor::HostAddress;
use tokio::time::Instant;

use super::metrics::IDLE_CONNECTIONS;

/// Connections by address. Taking the newest lets the others grow old and go when load falls.
pub(super) struct Pool<T> {
    /// Each list is ordered by time, oldest first.
    idle: Mutex<HashMap<HostAddress, Vec<Idle<T>>>>,
    /// How long a connection may wait.
    max_idle: Duration,
    /// How many may wait per address.
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

    /// The connection that was put back last, unless it has waited too long.
    pub(super) fn take(&self, address: &HostAddress) -> Option<T> {
        let newest = self.idle.lock().get_mut(address)?.pop()?;
        self.count.decrement(1);
        // The newest is too old: so are all others, and the next trim takes them.
        (newest.since.elapsed() <= self.max_idle).then_some(newest.connection)
    }

    /// Keeps a connection for the next call; one too many is closed.
    pub(super) fn put(&self, address: &HostAddress, connection: T) {
        let idle = Idle { connection, since: Instant::now() };
        let mut addresses = self.idle.lock();
        // Only a first connection needs a key of its own.
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
            // Closing is a system call, and needs no lock.
            Some(refused) => drop(refused),
            None => self.count.increment(1),
        }
    }

    /// Closes what has waited too long, and forgets addresses without connections.
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
