//! Kept: calls that have ended, in memory, for whoever asks why one was slow or failed, or follows the calls of an actor.
//!
//! Failed and slow calls are kept in one ring, sampled calls in another: many sampled calls do not push out a failed call. A listener
//! follows the calls of one actor. It has a buffer of bounded size; calls for which the buffer has no place are counted. While there
//! is no listener, the end of a call reads one atomic number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_stages::actor::ActorRef;
use tidegate_stages::traces::TracedCall;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Most listeners at once.
const LISTENERS: usize = 32;
/// Most calls that wait for one listener.
const WAITING: usize = 256;
/// How long a listener is kept that asks for nothing.
const GONE: Duration = Duration::from_secs(30);

/// Calls that have ended: the newest of them, for those who ask why one took so long.
#[derive(Debug)]
pub struct Kept {
    /// Calls in each ring.
    most: usize,
    rings: Mutex<Rings>,
    /// How many listeners there are; those that are gone count until they are looked for.
    listening: AtomicUsize,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Rings {
    failed_or_slow: VecDeque<Arc<TracedCall>>,
    sampled: VecDeque<Arc<TracedCall>>,
}

#[derive(Debug, Default)]
struct Listeners {
    last: u64,
    all: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    number: u64,
    actor: ActorRef,
    asked: Instant,
    waiting: VecDeque<Arc<TracedCall>>,
    dropped: u64,
    arrived: Arc<Notify>,
}

/// What a listener gets.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) calls: Vec<Arc<TracedCall>>,
    /// Calls for which there was no place since the listener asked last.
    pub(crate) dropped: u64,
}

/// Too many follow actors already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Kept {
    /// Keeps so many calls of each sort.
    pub fn new(most: usize) -> Self {
        let (rings, listeners) = (Mutex::default(), Mutex::default());
        Self { most, rings, listening: AtomicUsize::new(0), listeners }
    }

    /// Takes a call that has ended. `is_kept`: also for those who ask later.
    pub(super) fn take(&self, call: &Arc<TracedCall>, is_kept: bool) {
        if is_kept {
            let mut rings = self.rings.lock();
            let ring = if call.is_sampled && call.error.is_none() {
                &mut rings.sampled
            } else {
                &mut rings.failed_or_slow
            };
            let dropped = if ring.len() >= self.most { ring.pop_front() } else { None };
            ring.push_back(call.clone());
            drop(rings);
            // Freed without the lock.
            drop(dropped);
        }
        if self.listening.load(Ordering::Relaxed) > 0 {
            self.pass(call);
        }
    }

    fn pass(&self, call: &Arc<TracedCall>) {
        let mut listeners = self.listeners.lock();
        self.forget_gone(&mut listeners);
        let passed = |actor: &ActorRef| call.hops.iter().any(|hop| hop.actor == *actor);
        for listener in listeners.all.iter_mut().filter(|listener| passed(&listener.actor)) {
            if listener.waiting.len() < WAITING {
                listener.waiting.push_back(call.clone());
            } else {
                listener.dropped += 1;
            }
            listener.arrived.notify_one();
        }
    }

    fn forget_gone(&self, listeners: &mut Listeners) {
        listeners.all.retain(|listener| listener.asked.elapsed() < GONE);
        self.listening.store(listeners.all.len(), Ordering::Relaxed);
    }

    /// Whether somebody follows this actor. Costs one load while nobody follows any.
    pub(super) fn is_followed(&self, actor: &ActorRef) -> bool {
        self.listening.load(Ordering::Relaxed) > 0
            && self.listeners.lock().all.iter().any(|listener| listener.actor == *actor)
    }

    /// Follows an actor from now on. Returns the number of the listener.
    pub(crate) fn listen(&self, actor: ActorRef) -> Result<u64, TooMany> {
        let mut listeners = self.listeners.lock();
        self.forget_gone(&mut listeners);
        if listeners.all.len() >= LISTENERS {
            return Err(TooMany);
        }
        listeners.last += 1;
        let (number, asked) = (listeners.last, Instant::now());
        let (waiting, arrived) = (VecDeque::new(), Arc::default());
        listeners.all.push(Listener { number, actor, asked, waiting, dropped: 0, arrived });
        self.listening.store(listeners.all.len(), Ordering::Relaxed);
        Ok(number)
    }

    /// Returns the calls for a listener, or none after `limit`. `None`: there is no such listener.
    pub(crate) async fn hear(&self, number: u64, limit: Duration) -> Option<Heard> {
        let arrived = self.of(number, |listener| listener.arrived.clone())?;
        let taken = || {
            self.of(number, |listener| Heard {
                calls: listener.waiting.drain(..).collect(),
                dropped: std::mem::take(&mut listener.dropped),
            })
        };
        let first = taken()?;
        if !first.calls.is_empty() {
            return Some(first);
        }
        timeout(limit, arrived.notified()).await.unwrap_or_default();
        taken()
    }

    fn of<T>(&self, number: u64, with: impl FnOnce(&mut Listener) -> T) -> Option<T> {
        let mut listeners = self.listeners.lock();
        let listener = listeners.all.iter_mut().find(|listener| listener.number == number)?;
        listener.asked = Instant::now();
        Some(with(listener))
    }

    /// The newest calls that `is_meant` holds for, newest first.
    pub(crate) fn find(
        &self,
        limit: usize,
        is_meant: impl Fn(&TracedCall) -> bool,
    ) -> Vec<Arc<TracedCall>> {
        // Looked through without the lock, which calls that end take.
        let all: Vec<_> = {
            let rings = self.rings.lock();
            rings.failed_or_slow.iter().chain(&rings.sampled).cloned().collect()
        };
        let mut found: Vec<_> = all.into_iter().filter(|call| is_meant(call)).collect();
        found.sort_unstable_by_key(|call| std::cmp::Reverse(call.began));
        found.truncate(limit);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::call;
    use super::*;
    use tidegate_stages::error::Error;

    fn ended(name: &str, error: Option<Error>, is_sampled: bool) -> Arc<TracedCall> {
        let mut call = TracedCall { is_sampled, ..call(error) };
        call.hops.truncate(1);
        call.hops[0].actor = ActorRef::new("shop", name);
        Arc::new(call)
    }

    #[tokio::test(start_paused = true)]
    async fn sampled_calls_do_not_push_out_failed_ones() {
        let kept = Kept::new(2);
        for name in ["a", "b", "c"] {
            kept.take(&ended(name, Some(Error::Draining), true), true);
        }
        for _ in 0..10 {
            kept.take(&ended("ok", None, true), true);
        }
        let failed = kept.find(10, |call| call.error.is_some());
        let names: Vec<_> = failed.iter().map(|call| call.hops[0].actor.name()).collect();
        assert_eq!(names.len(), 2);
        assert!(!names.contains(&"a"), "the oldest went: {names:?}");
        assert_eq!(kept.find(10, |_| true).len(), 4);
        assert_eq!(kept.find(3, |_| true).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_gets_the_calls_of_its_actor_within_its_bound_and_is_forgotten() {
        let kept = Kept::new(1);
        let joe = ActorRef::new("shop", "joe");
        assert!(!kept.is_followed(&joe));
        kept.take(&ended("joe", None, false), false);
        let number = kept.listen(joe.clone()).unwrap();
        assert!(kept.is_followed(&joe) && !kept.is_followed(&ActorRef::new("shop", "ann")));
        for _ in 0..WAITING + 7 {
            kept.take(&ended("joe", None, false), false);
            kept.take(&ended("ann", None, false), false);
        }
        let heard = kept.hear(number, GONE / 2).await.unwrap();
        assert_eq!((heard.calls.len(), heard.dropped), (WAITING, 7));
        assert_eq!(kept.find(10, |_| true).len(), 0, "nothing was kept for later");
        let nothing = kept.hear(number, GONE / 2).await.unwrap();
        assert_eq!((nothing.calls.len(), nothing.dropped), (0, 0));
        tokio::time::advance(GONE).await;
        kept.take(&ended("joe", None, false), false);
        assert!(!kept.is_followed(&joe));
        assert!(kept.hear(number, GONE).await.is_none());
        for _ in 0..LISTENERS {
            kept.listen(joe.clone()).unwrap();
        }
        assert_eq!(kept.listen(joe), Err(TooMany));
    }
}
