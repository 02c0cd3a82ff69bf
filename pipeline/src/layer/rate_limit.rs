//! Rate limit: a number of calls per key and time. A call that comes too early fails at once, and its
//! error says when to try again.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, MapErr, TryFutureExt};
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{Layer, Service};

/// How many calls a key may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitOptions {
    /// Calls of a key per `period`, on average.
    pub calls: NonZeroU32,
    /// The period that `calls` counts for.
    pub period: Duration,
    /// How many calls of a key may come at once after a time without calls.
    pub burst: NonZeroU32,
    /// How many keys are remembered at once. A key is forgotten when it may make a whole burst again.
    /// While so many are remembered, every call is refused.
    pub max_keys: usize,
}

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateLimitError<E = Infallible> {
    /// The key made too many calls. The service was not called.
    #[error("too many calls, retry in {retry_after:?}")]
    TooMany {
        /// When the next call is allowed.
        retry_after: Duration,
    },
    /// Too many different keys made calls. The service was not called.
    #[error("too many callers, retry in {retry_after:?}")]
    TooManyKeys {
        /// When keys are forgotten.
        retry_after: Duration,
    },
    /// The service was called and failed.
    #[error(transparent)]
    Inner(#[from] E),
}

/// The time since the limiter was made. It is tokio's time, so tests can pause it.
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

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, TokioClock, NoOpMiddleware<Duration>>;

struct Limiter<K: Hash + Eq + Clone> {
    keyed: Keyed<K>,
    clock: TokioClock,
    max_keys: usize,
    /// After this time without calls a key may make a whole burst again and can be forgotten.
    memory: Duration,
    /// When to look for keys to forget.
    next_cleanup: Mutex<Duration>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn check<E>(&self, key: &K) -> Result<(), RateLimitError<E>> {
        self.forget_quiet_keys()?;
        self.keyed.check_key(key).map_err(|not_until| RateLimitError::TooMany {
            retry_after: not_until.wait_time_from(self.clock.now()),
        })
    }

    /// Forgets keys at most once per `memory`, so that the cost is shared by the calls of that time.
    fn forget_quiet_keys<E>(&self) -> Result<(), RateLimitError<E>> {
        let now = self.clock.now();
        let mut next_cleanup = self.next_cleanup.lock();
        if now >= *next_cleanup {
            *next_cleanup = now.saturating_add(self.memory);
            self.keyed.retain_recent();
        }
        if self.keyed.len() < self.max_keys {
            return Ok(());
        }
        Err(RateLimitError::TooManyKeys { retry_after: next_cleanup.duration_since(now).into() })
    }
}

/// Mounts [`RateLimit`]. A function names the key of each call. Services made with clones of one layer
/// share one limit.
pub struct RateLimitLayer<Q, K: Hash + Eq + Clone> {
    limiter: Arc<Limiter<K>>,
    key: fn(&Q) -> K,
}

impl<Q, K: Hash + Eq + Clone> RateLimitLayer<Q, K> {
    /// Makes the layer. `key` returns the key of a call.
    pub fn new(options: RateLimitOptions, key: fn(&Q) -> K) -> RateLimitLayer<Q, K> {
        let interval = (options.period / options.calls.get()).max(Duration::from_nanos(1));
        // `None` only for a zero interval.
        let quota = Quota::with_period(interval)
            .unwrap_or_else(|| Quota::per_second(options.calls))
            .allow_burst(options.burst);
        let clock = TokioClock { start: Instant::now() };
        let memory = interval.saturating_mul(options.burst.get());
        let limiter = Limiter {
            keyed: RateLimiter::hashmap_with_clock(quota, clock.clone()),
            clock,
            max_keys: options.max_keys,
            memory,
            next_cleanup: Mutex::new(memory),
        };
        RateLimitLayer { limiter: Arc::new(limiter), key }
    }

    /// Returns how many keys are remembered.
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

/// Refuses calls of a key that come too early. Made by [`RateLimitLayer`].
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
        match self.layer.limiter.check(&(self.layer.key)(&request)) {
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
    async fn a_key_gets_its_burst_then_its_rate_and_is_told_when_to_retry() {
        let layer = RateLimitLayer::new(options(), |key: &u64| *key);
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
    async fn quiet_keys_are_forgotten_and_their_number_is_bounded() {
        let layer = RateLimitLayer::new(options(), |key: &u64| *key);
        for key in 0..100 {
            assert_eq!(call(&layer, key).await, Ok(()));
        }
        let Err(RateLimitError::TooManyKeys { retry_after }) = call(&layer, 100).await else {
            panic!("there are 100 keys");
        };
        assert_eq!(layer.keys(), 100);
        advance(retry_after).await;
        assert_eq!(call(&layer, 100).await, Ok(()));
        assert_eq!(layer.keys(), 1);
    }
}
