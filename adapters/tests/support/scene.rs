//! Scene: a counting host, a proxy on some store, callers that remember their counts; and the faults they
//! meet.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::counter::{Added, Counter, add, add_within, definition, register, stateless};
use super::host::Host;
use super::ledger::Ledger;
use super::proto::Kind;
use super::proxy::{Proxy, embedded};

/// How many actors are called at once, by one caller each.
const ACTORS: u32 = 40;
/// How many more callers the first actor has: its calls queue up, its commits follow each other closely.
const HOT_CALLERS: u32 = 7;
/// What must have happened before a kill counts.
const ACKNOWLEDGED: u32 = 100;
const IN_FLIGHT: u32 = 10;
/// How long the load may take to get there.
const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// How long an outage may take to be noticed, and to be over once its reason is.
const OUTAGE_LIMIT: Duration = Duration::from_secs(90);
/// How long one call of a prober may take.
const PROBE: Duration = Duration::from_secs(10);
/// An actor that nobody but a prober calls, and one that has no state to keep.
const PROBED: &str = "probed";
const STATELESS: &str = "stateless";

/// See the [module](self).
pub(crate) struct Scene {
    pub(crate) counter: Arc<Counter>,
    host: Host,
    /// Where states are kept.
    store: Vec<(String, String)>,
    pub(crate) ledger: Arc<Ledger>,
    callers: Vec<String>,
}

impl Scene {
    /// A scene whose proxies have these settings.
    pub(crate) fn new<S: Into<String>>(store: impl IntoIterator<Item = (S, S)>) -> Self {
        Self::with(Counter { takes: Duration::from_millis(1), ..Counter::default() }, store)
    }

    /// The same with a host of its own kind.
    pub(crate) fn with<S: Into<String>>(
        counter: Counter,
        store: impl IntoIterator<Item = (S, S)>,
    ) -> Self {
        let counter = Arc::new(counter);
        let host = Host::start(Arc::clone(&counter));
        let name = |number: u32| format!("a{number:02}");
        let callers = (0..ACTORS).map(name).chain((0..HOT_CALLERS).map(|_| name(0))).collect();
        let store = store.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { counter, host, store, ledger: Arc::default(), callers }
    }

    /// A scene on the embedded store.
    pub(crate) fn embedded(directory: &Path) -> Self {
        Self::new(embedded(directory, "1"))
    }

    /// Starts the proxy, with more settings.
    pub(crate) async fn start(&self, more: &[(&str, &str)]) -> Proxy {
        let port = self.host.port();
        let mut settings = self.settings();
        settings.extend([("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &port)]);
        settings.extend(more);
        Proxy::start(&settings).await
    }

    /// Where states are kept, as settings.
    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        self.store.iter().map(|(name, value)| (&name[..], &value[..])).collect()
    }

    /// Registers the actors, for good.
    pub(crate) async fn register(&self, proxy: &Proxy) {
        let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
        let mut names = self.callers.clone();
        names.truncate(ACTORS as usize);
        names.push(PROBED.into());
        let stateful = names.iter().map(|name| definition(name, Kind::Named));
        register(&mut client, stateful.chain([stateless(STATELESS)]).collect()).await;
    }

    /// One caller for each actor and more for the first, until they are refused; see [`Ledger::load`].
    pub(crate) fn load(&self, proxy: &Proxy) -> JoinSet<Option<u16>> {
        self.ledger.load(proxy.address(), &self.callers)
    }

    /// Waits until enough was acknowledged since the count stood at `before`, and enough is in flight.
    pub(crate) async fn under_load(&self, before: u32) {
        let loaded = timeout(LOAD_LIMIT, async {
            while self.ledger.acknowledged() < before + ACKNOWLEDGED
                || self.ledger.in_flight() < IN_FLIGHT
            {
                sleep(Duration::from_millis(1)).await;
            }
        });
        loaded.await.expect("the load gets going");
    }

    /// Kills the proxy under load, `rounds` times, and looks each time whether everything is there afterwards.
    pub(crate) async fn killed_again_and_again(&self, rounds: u32) {
        let seed: u64 = rand::random();
        eprintln!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut proxy = self.start(&[]).await;
        self.register(&proxy).await;
        for round in 0..rounds {
            let before = self.ledger.acknowledged();
            let callers = self.load(&proxy);
            self.under_load(before).await;
            sleep(Duration::from_millis(random.random_range(0..150))).await;
            self.under_load(before).await;
            proxy.kill().await;
            let refusals: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
            assert!(refusals.is_empty(), "calls were refused with {refusals:?}");

            proxy = self.start(&[]).await;
            self.ledger.check(proxy.address(), round % 2 == 1).await;
        }
        eprintln!("{rounds} rounds, {} acknowledged", self.ledger.acknowledged());
    }

    /// Asks the proxy to end while it is under load, and looks whether everything is there afterwards.
    pub(crate) async fn ended_in_order(&self, durability: &str) {
        let settings = [("TIDEGATE_DURABILITY", durability), ("TIDEGATE_DRAIN_DELAY", "200")];
        let proxy = self.start(&settings).await;
        self.register(&proxy).await;
        let callers = self.load(&proxy);
        self.under_load(0).await;
        let status = proxy.terminate(LOAD_LIMIT).await;
        assert_eq!(status.code(), Some(0), "it ends with {status}");
        let refusals: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
        assert!(
            refusals.iter().all(|status| *status == 503),
            "calls were refused with {refusals:?}"
        );

        let proxy = self.start(&settings).await;
        self.ledger.check(proxy.address(), false).await;
    }

    /// Takes the store away under load and gives it back: stateful calls are refused with 503 meanwhile, others are
    /// served, and when it is back all are, by the same process. Nothing that was acknowledged is lost.
    pub(crate) async fn outage(
        &self,
        proxy: &Proxy,
        begins: impl Future<Output = ()>,
        ends: impl Future<Output = ()>,
    ) {
        let callers = self.start_callers(proxy);
        self.gone_on().await;
        begins.await;
        let began = Instant::now();
        self.refused(proxy).await;
        let refused = began.elapsed();
        self.stateless_served(proxy).await;
        ends.await;
        let ended = Instant::now();
        self.gone_on().await;
        eprintln!("refused after {refused:?}; served again {:?} after the end", ended.elapsed());
        self.probe_until(proxy, "served again", |added| matches!(added, Added::To(_))).await;
        let refusals = callers.stop().await;
        // Some may only have waited: a commit in doubt is settled when the store is back.
        let are_told = refusals.iter().all(|status| [503, 504].contains(status));
        assert!(are_told, "the callers were refused with {refusals:?}");
        self.ledger.check(proxy.address(), false).await;
    }

    /// Starts callers that go on when they are refused.
    pub(crate) fn start_callers(&self, proxy: &Proxy) -> PersistentCallers {
        let stopped = CancellationToken::new();
        let callers = self.ledger.start_callers(proxy.address(), &self.callers, &stopped);
        PersistentCallers { callers, stopped }
    }

    /// Waits until every actor has more calls acknowledged than it has now, and all of them enough.
    pub(crate) async fn gone_on(&self) {
        let before = self.ledger.acknowledged_of_each();
        let total = self.ledger.acknowledged();
        let has_gone_on = || {
            let now = self.ledger.acknowledged_of_each();
            self.ledger.acknowledged() >= total + ACKNOWLEDGED
                && self.callers.iter().all(|actor| now.get(actor) > before.get(actor))
        };
        let gone_on = timeout(OUTAGE_LIMIT, async {
            while !has_gone_on() {
                sleep(Duration::from_millis(5)).await;
            }
        });
        gone_on.await.expect("calls of every actor go on");
    }

    /// Waits until a stateful call is refused with 503.
    async fn refused(&self, proxy: &Proxy) {
        let is_refused = |added: &Added| matches!(added, Added::Refused(503, _));
        self.probe_until(proxy, "refused with 503", is_refused).await;
    }

    async fn stateless_served(&self, proxy: &Proxy) {
        let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
        let added = add(&mut client, STATELESS).await.expect("an answer");
        assert!(matches!(added, Added::To(_)), "a call that needs no store: {added:?}");
    }

    async fn probe_until(&self, proxy: &Proxy, what: &str, is_so: impl Fn(&Added) -> bool) {
        let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
        let mut last = None;
        let probed = timeout(OUTAGE_LIMIT, async {
            loop {
                let added = add_within(&mut client, PROBED, PROBE).await.expect("an answer");
                if is_so(&added) {
                    return;
                }
                if let Added::Refused(status, text) = &added {
                    assert!(matches!(status, 503 | 504), "{status}: {text}");
                }
                last = Some(added);
                sleep(Duration::from_millis(20)).await;
            }
        });
        let probed = probed.await.is_ok();
        assert!(probed, "a stateful call was not {what}, but {last:?}");
    }
}

/// Callers that go on when they are refused.
#[derive(Debug)]
pub(crate) struct PersistentCallers {
    callers: JoinSet<BTreeSet<u16>>,
    stopped: CancellationToken,
}

impl PersistentCallers {
    /// Lets them end; the statuses of their refusals, of which an outage explains none but 503 and, for a call whose
    /// time is over, 504.
    pub(crate) async fn stop(self) -> BTreeSet<u16> {
        self.stopped.cancel();
        let refusals: BTreeSet<u16> = self.callers.join_all().await.into_iter().flatten().collect();
        assert!(
            refusals.iter().all(|status| matches!(status, 503 | 504)),
            "calls were refused with {refusals:?}"
        );
        refusals
    }
}
