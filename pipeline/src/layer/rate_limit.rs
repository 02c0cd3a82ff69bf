//! Rate limit: allows a number of calls per key and time. A call that comes too early fails with the time to wait.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, MapErr, TryFutureExt};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::{HashMapStateStore, ShrinkableKeyedStateStore};
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::randomness::Seeded;

/// How many calls per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitOptions {
    /// Calls per `period` and key in the long run.
    pub calls: NonZeroU32,
    /// The time for `calls`.
    pub period: Duration,
    /// Calls of a key that may come at once after a quiet time.
    pub burst: NonZeroU32,
    /// How many keys are remembered at once. A key is forgotten when it may make a whole burst again.
    /// While so many are remembered, all other keys share one limit.
    pub max_keys: usize,
}

/// A call was not made, or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateLimitError<E = Infallible> {
    /// The key has had its calls; nothing ran.
    #[error("too many calls, retry in {retry_after:?}")]
    TooMany {
        /// When the next one is free.
        retry_after: Duration,
    },
    /// The call was made and failed.
    #[error(transparent)]
    Inner(#[from] E),
}

/// tokio's time since the limiter was made, so that tests can pause it.
#[derive(Debug, Clone)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The state of each key, for a bounded number of keys. A new key never replaces another: a key for which there is no
/// space shares one state with all others like it.
struct Keys<K> {
    known: HashMapStateStore<K, Seeded>,
    others: InMemoryState,
    max: usize,
}

impl<K: Hash + Eq + Clone> StateStore for Keys<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.known.lock();
        if let Some(state) = known.get(key) {
            return state.measure_and_replace(&NotKeyed::NonKey, measure);
        }
        if known.len() >= self.max {
            return self.others.measure_and_replace(&NotKeyed::NonKey, measure);
        }
        known.entry(key.clone()).or_default().measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Keys<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.known.retain_recent(drop_below);
    }

    fn len(&self) -> usize {
        self.known.len()
    }

    fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

type Keyed<K> = RateLimiter<K, Keys<K>, TokioClock, NoOpMiddleware<Duration>>;

struct Limiter<K: Hash + Eq + Clone> {
    keyed: Keyed<K>,
    clock: TokioClock,
    /// How long a key needs to earn a whole burst. A key that was quiet for so long can be forgotten.
    memory: Duration,
    /// When to look next for keys to forget.
    upkeep: Mutex<Duration>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn check<E>(&self, key: &K) -> Result<(), RateLimitError<E>> {
        self.upkeep();
        self.keyed.check_key(key).map_err(|not_until| RateLimitError::TooMany {
            retry_after: not_until.wait_time_from(self.clock.now()),
        })
    }

    /// Forgets quiet keys once per burst time, so its cost is spread over the calls of that time.
    fn upkeep(&self) {
        let now = self.clock.now();
        let mut upkeep = self.upkeep.lock();
        if now >= *upkeep {
            *upkeep = now.saturating_add(self.memory);
            self.keyed.retain_recent();
        }
    }
}

/// Mounts [`RateLimit`]: the key of a call is what `key` says, and a call without a key is not limited.
/// Services made with clones of one layer share the limit.
pub struct RateLimitLayer<Q, K: Hash + Eq + Clone> {
    limiter: Arc<Limiter<K>>,
    key: fn(&Q) -> Option<K>,
}

impl<Q, K: Hash + Eq + Clone> RateLimitLayer<Q, K> {
    /// Makes the layer.
    pub fn new(options: RateLimitOptions, key: fn(&Q) -> Option<K>) -> RateLimitLayer<Q, K> {
        let interval = (options.period / options.calls.get()).max(Duration::from_nanos(1));
        // `None` only for a zero interval.
        let quota = Quota::with_period(interval)
            .unwrap_or_else(|| Quota::per_second(options.calls))
            .allow_burst(options.burst);
        let clock = TokioClock { start: Instant::now() };
        let memory = interval.saturating_mul(options.burst.get());
        let keys = Keys {
            known: HashMapStateStore::default(),
            others: InMemoryState::default(),
            max: options.max_keys,
        };
        let limiter = Limiter {
            keyed: RateLimiter::new(quota, keys, clock.clone()),
            clock,
            memory,
            upkeep: Mutex::new(memory),
        };
        RateLimitLayer { limiter: Arc::new(limiter), key }
    }

    /// Keys that are remembered.
    pub fn keys(&self) -> usize {
        self.limiter.keyed.len()
    }
}

impl<Q, K: Hash + Eq + Clone> Clone for RateLimitLayer<Q, K> {
    fn clone(&self) -> RateLimitLayer<Q, K> {
        RateLimitLayer { limiter: Arc::clone(&self.limiter), key: self.key }
    }
}

impl<Q, K: Hash + Eq + Clone> fmt::Debug for RateLimitLayer<Q, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

impl<S, Q, K: Hash + Eq + Clone> Layer<S> for RateLimitLayer<Q, K> {
    type Service = RateLimit<S, Q, K>;

    fn layer(&self, inner: S) -> RateLimit<S, Q, K> {
        RateLimit { inner, layer: self.clone() }
    }
}

/// Refuses calls of a key that come too early; made by [`RateLimitLayer`].
#[derive(Debug)]
pub struct RateLimit<S, Q, K: Hash + Eq + Clone> {
    inner: S,
    layer: RateLimitLayer<Q, K>,
}

impl<S: Clone, Q, K: Hash + Eq + Clone> Clone for RateLimit<S, Q, K> {
    fn clone(&self) -> RateLimit<S, Q, K> {
        RateLimit { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: Service<Q>, Q, K: Hash + Eq + Clone> Service<Q> for RateLimit<S, Q, K> {
    type Response = S::Response;
    type Error = RateLimitError<S::Error>;
    type Future = Either<
        Ready<Result<S::Response, Self::Error>>,
        MapErr<S::Future, fn(S::Error) -> Self::Error>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(RateLimitError::Inner)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let key = (self.layer.key)(&request);
        match key.map_or(Ok(()), |key| self.layer.limiter.check(&key)) {
            Err(error) => Either::Left(ready(Err(error))),
            Ok(()) => Either::Right(self.inner.call(request).map_err(RateLimitError::Inner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;
    use tower::{ServiceExt, service_fn};

    fn options() -> RateLimitOptions {
        RateLimitOptions {
            calls: NonZeroU32::new(10).unwrap(),
            period: Duration::from_secs(1),
            burst: NonZeroU32::new(2).unwrap(),
            max_keys: 100,
        }
    }

    async fn call(
        layer: &RateLimitLayer<u64, u64>,
        key: u64,
    ) -> Result<(), RateLimitError<Infallible>> {
        layer.layer(service_fn(|_: u64| ready(Ok::<(), Infallible>(())))).oneshot(key).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_gets_its_burst_then_its_rate_and_is_told_when_to_come_back() {
        let layer = RateLimitLayer::new(options(), |key: &u64| Some(*key));
        assert_eq!(call(&layer, 1).await, Ok(()));
        assert_eq!(call(&layer, 1).await, Ok(()));
        let Err(RateLimitError::TooMany { retry_after }) = call(&layer, 1).await else {
            panic!("the burst is over");
        };
        assert_eq!(retry_after, Duration::from_millis(100));
        assert_eq!(call(&layer, 2).await, Ok(()), "another key has its own");
        advance(retry_after).await;
        assert_eq!(call(&layer, 1).await, Ok(()));
        assert!(call(&layer, 1).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_is_bounded_and_takes_nothing_from_known_keys() {
        let layer = RateLimitLayer::new(options(), |key: &u64| Some(*key));
        for key in 0..100 {
            assert_eq!(call(&layer, key).await, Ok(()));
        }
        let mut served = 0;
        for key in 100..1_000 {
            served += u32::from(call(&layer, key).await.is_ok());
        }
        assert_eq!((served, layer.keys()), (2, 100), "the others share one burst");
        for key in 0..100 {
            assert_eq!(call(&layer, key).await, Ok(()), "key {key} has its second call");
        }
        advance(2 * layer.limiter.memory).await;
        assert_eq!(call(&layer, 100).await, Ok(()));
        assert_eq!(layer.keys(), 1, "quiet keys are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_key_is_not_limited() {
        let layer = RateLimitLayer::new(options(), |key: &u64| (*key > 0).then_some(*key));
        for _ in 0..10 {
            assert_eq!(call(&layer, 0).await, Ok(()));
        }
        assert_eq!(layer.keys(), 0);
    }
}
