//! Places: how many connections may be open, in all and of one address. When all places are taken, the connections that are
//! idle longest end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use crate::metrics::CONNECTIONS_CLOSED_TOTAL;
use crate::net::Peer;

/// How long a connection must have been idle to give its place up: a client that uses it again and again keeps it.
const SPARED: Duration = Duration::from_secs(1);
/// One address has so many parts of all connections, unless a setting says otherwise.
const OF_A_PEER: usize = 4;
/// One in so many connections gives its place up at once: all are looked at for it.
const PART: usize = 128;

/// The places; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    peer_limit: Option<usize>,
    free: Arc<Semaphore>,
    number: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
    /// How many are open of each address.
    of_peers: Mutex<HashMap<IpAddr, usize>>,
}

#[derive(Debug)]
struct Open {
    progress: Arc<Progress>,
    closing: CancellationToken,
}

/// The place of an open connection.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    peer: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = &*self.places.0;
        places.open.lock().remove(&self.number);
        let Some(peer) = self.peer else { return };
        let mut of_peers = places.of_peers.lock();
        if let Some(open) = of_peers.get_mut(&peer) {
            *open -= 1;
            if *open == 0 {
                of_peers.remove(&peer);
            }
        }
    }
}

impl Places {
    pub(super) fn new(limit: usize, peer_limit: Option<usize>) -> Self {
        let free = Arc::new(Semaphore::new(limit));
        let (number, open, of_peers) = (AtomicU64::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { limit, peer_limit, free, number, open, of_peers }))
    }

    /// Whether this peer may open one connection more.
    pub(super) fn admits(&self, peer: Peer) -> bool {
        let limit = match self.0.peer_limit {
            Some(limit) => limit,
            None if peer.is_loopback() => return true,
            None => self.0.limit.div_ceil(OF_A_PEER),
        };
        let open = peer.network().and_then(|peer| self.0.of_peers.lock().get(&peer).copied());
        open.unwrap_or_default() < limit
    }

    /// Returns a free place; waits for one. Cancel safe.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        let free = Arc::clone(&self.0.free).acquire_owned();
        tokio::pin!(free);
        loop {
            let scarce = async {
                // Whoever gets a free place at once does not come here.
                tokio::task::yield_now().await;
                sleep(self.close_idle()).await;
            };
            tokio::select! {
                biased;
                place = free.as_mut() => return place.expect("it is never closed"),
                () = scarce => {}
            }
        }
    }

    /// Gives a free place to a connection, which ends soon after `closing`.
    pub(super) fn take(
        &self,
        permit: OwnedSemaphorePermit,
        peer: Peer,
        (progress, closing): (Arc<Progress>, CancellationToken),
    ) -> Place {
        let peer = peer.network();
        if let Some(peer) = peer {
            *self.0.of_peers.lock().entry(peer).or_default() += 1;
        }
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        self.0.open.lock().insert(number, Open { progress, closing });
        Place { places: self.clone(), number, peer, _permit: permit }
    }

    /// Asks the connections that are idle longest to end. Returns when to look again.
    fn close_idle(&self) -> Duration {
        let now = Instant::now();
        let open = self.0.open.lock();
        let mut idle: Vec<_> = open
            .values()
            .filter(|open| !open.closing.is_cancelled())
            .filter_map(|open| {
                // Half a head is no request: it does not keep a place.
                let since = open.progress.idle_since()?;
                Some((now.saturating_duration_since(since), &open.closing))
            })
            .collect();
        let longest = idle.iter().map(|(idle, _)| *idle).max().unwrap_or_default();
        if longest < SPARED {
            return SPARED.saturating_sub(longest);
        }
        let most = self.0.limit.div_ceil(PART);
        idle.sort_unstable_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        let closed = idle.iter().take(most).take_while(|(idle, _)| *idle >= SPARED);
        for (_, closing) in closed {
            closing.cancel();
            counter!(CONNECTIONS_CLOSED_TOTAL, "reason" => "place").increment(1);
        }
        SPARED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_idle_longest_give_their_places_up_and_busy_ones_do_not() {
        let places = Places::new(3, None);
        let mut open = Vec::new();
        for _ in 0..3 {
            let (progress, closing) = (Arc::<Progress>::default(), CancellationToken::new());
            let permit = places.free().await;
            open.push((
                places.take(permit, Peer::Local, (Arc::clone(&progress), closing.clone())),
                closing,
                progress,
            ));
            sleep(Duration::from_secs(5)).await;
        }
        let _busy = open[0].2.begin();
        let leaving = async {
            open[1].1.cancelled().await;
            assert!(!open[0].1.is_cancelled() && !open[2].1.is_cancelled());
            drop(open.remove(1));
        };
        let (_free, ()) = tokio::join!(places.free(), leaving);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_just_used_is_spared() {
        let places = Places::new(1, None);
        let (progress, closing) = (Arc::<Progress>::default(), CancellationToken::new());
        let _place =
            places.take(places.free().await, Peer::Local, (Arc::clone(&progress), closing.clone()));
        let waiting = tokio::time::timeout(Duration::from_mins(1), places.free());
        let using = async {
            for _ in 0..100 {
                sleep(SPARED / 2).await;
                drop(progress.begin());
            }
        };
        let (waited, ()) = tokio::join!(waiting, using);
        assert!(waited.is_err() && closing.is_cancelled(), "it was silent after 50 s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_from_elsewhere_has_a_quarter_unless_a_setting_says_otherwise() {
        let peer = |address: &str| Peer::Ip(address.parse().unwrap());
        let take = async |places: &Places, from| {
            places.take(places.free().await, from, (Arc::default(), CancellationToken::new()))
        };
        let (places, elsewhere) = (Places::new(8, None), peer("2001:db8::1"));
        let first = take(&places, elsewhere).await;
        let _second = take(&places, peer("2001:db8::2")).await;
        assert!(!places.admits(elsewhere) && places.admits(peer("2001:db8:0:1::1")));
        drop(first);
        assert!(places.admits(elsewhere));
        for here in [peer("127.0.0.1"), peer("::1"), Peer::Local] {
            let _three =
                [take(&places, here).await, take(&places, here).await, take(&places, here).await];
            assert!(places.admits(here));
        }
        let set = Places::new(8, Some(1));
        let _one = take(&set, peer("127.0.0.1")).await;
        assert!(!set.admits(peer("::ffff:127.0.0.1")) && set.admits(peer("127.0.0.2")));
        let _local = take(&set, Peer::Local).await;
        assert!(set.admits(Peer::Local));
    }
}
