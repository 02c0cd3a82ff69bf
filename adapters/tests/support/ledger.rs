//! Ledger: callers of counting actors; they remember the counts they received and compare them with the
//! stored counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::{Client, NoAnswer};
use super::counter::{Added, add, add_within, get, get_state};

/// Between a refusal and the next try of a caller that insists.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a caller that insists waits for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of one actor.
#[derive(Debug, Default)]
struct Known {
    /// Values that were acknowledged; each may be so only once.
    acknowledged: BTreeSet<u32>,
    /// Calls that were sent since the last look.
    attempted: u32,
    /// Value at the last look.
    looked: u32,
}

/// Callers of counting actors, and what they were told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: Mutex<BTreeMap<String, Known>>,
    in_flight: AtomicU32,
    acknowledged: AtomicU32,
}

impl Ledger {
    /// How many calls wait for their answer now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// How many calls were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// How many calls of each actor were acknowledged so far.
    pub(crate) fn acknowledged_of_each(&self) -> BTreeMap<String, usize> {
        let known = self.known.lock();
        known.iter().map(|(actor, known)| (actor.clone(), known.acknowledged.len())).collect()
    }

    /// One caller for each entry of `actors`, until its connection fails or it is refused. The answers that were refusals.
    pub(crate) fn load(self: &Arc<Self>, address: &str, actors: &[String]) -> JoinSet<Option<u16>> {
        let mut callers = JoinSet::new();
        for actor in actors {
            let (ledger, address, actor) = (Arc::clone(self), address.to_owned(), actor.clone());
            callers.spawn(async move { ledger.call_until_refused(&address, &actor).await });
        }
        callers
    }

    async fn call_until_refused(&self, address: &str, actor: &str) -> Option<u16> {
        let mut client = Client::connect(address).await.ok()?;
        loop {
            self.attempt(actor);
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let added = add(&mut client, actor).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            match added {
                Ok(Added::To(value)) => self.acknowledge(actor, value),
                Ok(Added::Refused(status, _)) => return Some(status),
                Err(NoAnswer::Connection(_)) => return None,
                Err(NoAnswer::Silence) => panic!("a call of {actor} was never answered"),
            }
        }
    }

    fn acknowledge(&self, actor: &str, value: u32) {
        let mut known = self.known.lock();
        let new = known.get_mut(actor).expect("it was called").acknowledged.insert(value);
        assert!(new, "{actor} acknowledged {value} twice: an update was lost");
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    /// One caller for each entry of `actors`, that calls again when it is refused, until it is stopped. The statuses of
    /// the refusals.
    pub(crate) fn start_callers(
        self: &Arc<Self>,
        address: &str,
        actors: &[String],
        stopped: &CancellationToken,
    ) -> JoinSet<BTreeSet<u16>> {
        let mut callers = JoinSet::new();
        for actor in actors {
            let (ledger, address, actor) = (Arc::clone(self), address.to_owned(), actor.clone());
            let stopped = stopped.clone();
            callers
                .spawn(async move { ledger.call_until_stopped(&address, &actor, stopped).await });
        }
        callers
    }

    async fn call_until_stopped(
        &self,
        address: &str,
        actor: &str,
        stopped: CancellationToken,
    ) -> BTreeSet<u16> {
        let mut client = Client::connect(address).await.expect("the proxy is there");
        let mut refusals = BTreeSet::new();
        while !stopped.is_cancelled() {
            self.attempt(actor);
            match add_within(&mut client, actor, PATIENCE).await {
                Ok(Added::To(value)) => self.acknowledge(actor, value),
                Ok(Added::Refused(status, _)) => {
                    refusals.insert(status);
                    sleep(PAUSE).await;
                }
                Err(error) => panic!("a call of {actor} got no answer: {error:?}"),
            }
        }
        refusals
    }

    fn attempt(&self, actor: &str) {
        self.known.lock().entry(actor.to_owned()).or_default().attempted += 1;
    }

    /// Compares what every actor says with what its callers know, and starts over from there.
    ///
    /// # Panics
    /// When an acknowledged value is gone, or a value appeared that nobody asked for.
    pub(crate) async fn check(&self, address: &str, by_get_state: bool) {
        let mut client = Client::connect(address).await.expect("the proxy is there");
        let names: Vec<String> = self.known.lock().keys().cloned().collect();
        for actor in names {
            let value = if by_get_state {
                get_state(&mut client, &actor).await
            } else {
                get(&mut client, &actor).await
            };
            let mut known = self.known.lock();
            let known = known.get_mut(&actor).expect("it was listed");
            let acknowledged = known.acknowledged.last().copied().unwrap_or_default();
            assert!(
                value >= acknowledged,
                "{actor} is at {value}, {acknowledged} was acknowledged"
            );
            let attempted = known.looked + known.attempted;
            assert!(value <= attempted, "{actor} is at {value}, at most {attempted} was attempted");
            (known.looked, known.attempted) = (value, 0);
        }
    }
}
