//! Rate limit: allows a number of calls per key and time. A call that comes too early fails with the time to wait.

use std::borrow::Borrow;
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
struct Keys<K>(Arc<KeyStates<K>>);

struct KeyStates<K> {
    known: HashMapStateStore<K, Seeded>,
    others: InMemoryState,
    max: usize,
}

impl<K: Hash + Eq> Keys<K> {
    /// When all that a key has used is earned again, without using anything; `None`: it has used nothing.
    fn earned_at<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        let known = self.0.known.lock();
        let state = match known.get(key) {
            Some(state) => state,
            None if known.len() >= self.0.max => &self.0.others,
            None => return None,
        };
        // An error leaves the state as it is.
        let read = state.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), _>);
        read.err().flatten().map(Duration::from)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Keys<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.0.known.lock();
        if let Some(state) = known.get(key) {
            return state.measure_and_replace(&NotKeyed::NonKey, measure);
        }
        if known.len() >= self.0.max {
            return self.0.others.measure_and_replace(&NotKeyed::NonKey, measure);
        }
        known.entry(key.clone()).or_default().measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Keys<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.known.retain_recent(drop_below);
    }

    fn len(&self) -> usize {
        self.0.known.len()
    }

    fn is_empty(&self) -> bool {
        self.0.known.is_empty()
    }
}

type Keyed<K> = RateLimiter<K, Keys<K>, TokioClock, NoOpMiddleware<Duration>>;

struct Limiter<K: Hash + Eq + Clone> {
    keyed: Keyed<K>,
    /// The same states that `keyed` has.
    keys: Keys<K>,
    clock: TokioClock,
    /// How long a key needs to earn a whole burst. A key that was quiet for so long can be forgotten.
    memory: Duration,
    /// How long a key needs to earn one call.
    interval: Duration,
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

    fn look<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Result<(), RateLimitError>
    where
        K: Borrow<Q>,
    {
        let Some(earned_at) = self.keys.earned_at(key) else { return Ok(()) };
        // It may make a call when it lacks less than a whole burst.
        let at = earned_at.saturating_sub(self.memory.saturating_sub(self.interval));
        match at.checked_sub(self.clock.now()) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(retry_after) => Err(RateLimitError::TooMany { retry_after }),
        }
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
        let keys = Arc::new(KeyStates {
            known: HashMapStateStore::default(),
            others: InMemoryState::default(),
            max: options.max_keys,
        });
        let limiter = Limiter {
            keyed: RateLimiter::new(quota, Keys(Arc::clone(&keys)), clock.clone()),
            keys: Keys(keys),
            clock,
            memory,
            interval,
            upkeep: Mutex::new(memory),
        };
        RateLimitLayer { limiter: Arc::new(limiter), key }
    }

    /// Counts a request that no service wears this layer for.
    ///
    /// # Errors
    /// When its key has had its calls.
    pub fn count(&self, request: &Q) -> Result<(), RateLimitError> {
        (self.key)(request).map_or(Ok(()), |key| self.limiter.check(&key))
    }

    /// Whether this key may make a call now. Counts nothing.
    ///
    /// # Errors
    /// When it has had its calls.
    pub fn look<B: Hash + Eq + ?Sized>(&self, key: &B) -> Result<(), RateLimitError>
    where
        K: Borrow<B>,
    {
        self.limiter.look(key)
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
    async fn a_look_says_what_a_call_is_told_and_uses_nothing_up() {
        let one = RateLimitOptions { max_keys: 1, ..options() };
        let layer = RateLimitLayer::new(one, |key: &u64| Some(*key));
        for round in 0..4 {
            // The second key has no space of its own.
            for key in [1, 2] {
                for left in [2, 1, 0] {
                    let looked = layer.look(&key);
                    assert_eq!(layer.look(&key), looked);
                    assert_eq!(looked.is_ok(), left > 0, "round {round}, key {key}, {left} left");
                    assert_eq!(layer.count(&key), looked);
                }
            }
            assert_eq!(layer.look(&3), layer.look(&2), "unknown keys share one state");
            advance(Duration::from_millis(99)).await;
            assert_eq!(layer.look(&1), layer.count(&1));
            assert!(layer.look(&1).is_err());
            advance(Duration::from_millis(101)).await;
        }
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
