//! Callers: 64 tasks, each with one call in flight, over all actors in a pseudo-random order.

use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::counter::mix;

/// Concurrent callers.
pub const CALLERS: u64 = 64;

/// Makes `calls` calls (a multiple of 64) to `actors` actors; `call` returns the actor's count after the call.
///
/// # Panics
/// When an actor's count does not grow from one of a caller's calls to its next.
pub async fn call_at_random<F: Future<Output = u64> + Send>(
    actors: u64,
    calls: u64,
    call: impl Fn(u64) -> F + Send + Sync + 'static,
) {
    let call = Arc::new(call);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let call = Arc::clone(&call);
        callers.spawn(async move {
            let mut newest = vec![0; usize::try_from(actors).expect("a number of actors")];
            let place = mix(caller);
            for turn in 0..calls / CALLERS {
                let actor = mix(place.wrapping_add(turn)) % actors;
                let count = call(actor).await;
                let last = &mut newest[usize::try_from(actor).expect("below actors")];
                assert!(*last < count, "actor {actor} went from {last} to {count}");
                *last = count;
            }
        });
    }
    callers.join_all().await;
}

/// Calls each of `actors` actors once.
///
/// # Panics
/// When an actor's count is not `expected`.
pub async fn call_each<F: Future<Output = u64> + Send>(
    actors: u64,
    expected: u64,
    call: impl Fn(u64) -> F + Send + Sync + 'static,
) {
    let call = Arc::new(call);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let call = Arc::clone(&call);
        callers.spawn(async move {
            let mut actor = caller;
            while actor < actors {
                assert_eq!(call(actor).await, expected, "actor {actor}");
                actor += CALLERS;
            }
        });
    }
    callers.join_all().await;
}
