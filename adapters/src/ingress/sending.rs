//! Sending: counts the bytes of answers until their last byte has left.
//!
//! An answer that a client does not read stays in memory. So every answer counts its bytes against one of two parts of a bound
//! for all connections. The guard is inside the body's bytes: hyper drops them when the socket has taken the last one, or when
//! the stream or connection ends.
//!
//! - *Small* answers have a part of their own, so that clients that do not read large answers do not block small ones.
//! - *Large* answers wait for free bytes, in one fair line, for at most [`WAIT`]. An answer that has to be loaded waits before
//!   the load, with an estimate of its size. An answer in memory waits too, but only as long as the bytes of all such answers
//!   stay below a third bound.
//!
//! An answer for which there are no free bytes is not sent. Its client gets a 503, which is short and needs none.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::http::Refusal;
use super::progress::{InFlight, Taken};
use crate::byte_bound::{ByteBound, HeldBytes};

/// How long a large answer waits for free bytes.
const WAIT: Duration = Duration::from_secs(2);
/// Largest answer that counts as small.
const SMALL: usize = 16 * 1024;

/// The bound; see the [module](self).
#[derive(Debug)]
pub(super) struct Sending {
    limit: usize,
    small: Arc<ByteBound>,
    /// Answers in memory that wait for `large`.
    waiting: Arc<ByteBound>,
    large: Arc<Semaphore>,
    large_bytes: u32,
}

/// Bytes of the bound that one answer holds, or will need.
#[derive(Debug, Default)]
pub(super) struct Hold {
    _small: Option<HeldBytes>,
    large: Option<OwnedSemaphorePermit>,
}

/// The error: answers that clients do not read fill the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unread(usize);

impl Sending {
    pub(super) fn new(limit: usize) -> Self {
        let large_bytes = u32::try_from(limit / 2).unwrap_or(u32::MAX);
        Self {
            limit,
            small: ByteBound::new(limit / 4),
            waiting: ByteBound::new(limit / 4),
            large: Arc::new(Semaphore::new(large_bytes as usize)),
            large_bytes,
        }
    }

    /// Waits for free bytes, for an answer that is not in memory yet.
    pub(super) async fn before_load(&self, estimate: usize) -> Result<Hold, Unread> {
        let large = self.large.clone().acquire_many_owned(self.permits(estimate));
        match timeout(WAIT, large).await {
            Ok(Ok(large)) => Ok(Hold { large: Some(large), _small: None }),
            _ => Err(Unread(self.limit)),
        }
    }

    /// Takes the bytes that an answer in memory needs. Frees the rest of what was taken for it before.
    pub(super) async fn hold(&self, mut held: Hold, bytes: usize) -> Result<Hold, Unread> {
        if let Some(large) = held.large.as_mut() {
            let spare = large.num_permits().saturating_sub(self.permits(bytes) as usize);
            drop(large.split(spare));
            if bytes > SMALL && large.num_permits() >= self.permits(bytes) as usize {
                return Ok(held);
            }
        }
        if bytes <= SMALL
            && let Some(small) = self.small.try_hold(bytes)
        {
            return Ok(Hold { _small: Some(small), large: None });
        }
        drop(held);
        let permits = self.permits(bytes);
        if let Ok(large) = self.large.clone().try_acquire_many_owned(permits) {
            return Ok(Hold { large: Some(large), _small: None });
        }
        let Some(_waiting) = self.waiting.try_hold(bytes) else { return Err(Unread(self.limit)) };
        self.before_load(bytes).await
    }

    /// Returns how many permits an answer needs: at most all, so that a very large answer is sent alone.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.large_bytes)
    }
}

impl Unread {
    /// Returns the refusal; `is_done`: whether the request was carried out.
    pub(super) fn refusal(self, is_done: bool) -> Refusal {
        let mut text =
            format!("answers that their clients have not taken fill their {} bytes", self.0);
        if is_done {
            text.push_str("; what was asked for was done, only its answer is lost");
        }
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
        if is_done { refusal.of_lost_answer() } else { refusal }
    }
}

/// The bytes of an answer, with the guard that counts them until they are dropped.
#[derive(Debug)]
pub struct Held {
    bytes: Bytes,
    _hold: Hold,
    in_flight: Option<InFlight>,
    taken: Option<Arc<Taken>>,
}

impl Held {
    pub(super) fn new(bytes: Bytes, hold: Hold) -> Self {
        Self { bytes, _hold: hold, in_flight: None, taken: None }
    }

    /// The request stays in flight until the last byte has left, which `taken` learns.
    pub(super) fn carrying(mut self, in_flight: InFlight, taken: Option<Arc<Taken>>) -> Self {
        (self.in_flight, self.taken) = (Some(in_flight), taken);
        self
    }

    /// As [`Self::carrying`], for a part of an answer, which does not end the request.
    pub(super) fn noting(mut self, taken: Arc<Taken>) -> Self {
        self.taken = Some(taken);
        self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(taken) = &self.taken {
            taken.all();
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(taken) = &self.taken {
            taken.some();
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use tokio::time::Instant;

    use super::*;
    use crate::wire::Form;

    const MIB: usize = 1 << 20;

    async fn held(sending: &Sending, bytes: usize) -> Result<Hold, Unread> {
        sending.hold(Hold::default(), bytes).await
    }

    #[tokio::test(start_paused = true)]
    async fn large_answers_that_nobody_takes_leave_small_ones_their_part() {
        let sending = Sending::new(16 * MIB);
        let _first = held(&sending, 4 * MIB).await.unwrap();
        let second = held(&sending, 4 * MIB).await.unwrap();
        let started = Instant::now();
        assert_eq!(held(&sending, MIB).await.unwrap_err(), Unread(16 * MIB));
        assert_eq!(started.elapsed(), WAIT);
        let _small = held(&sending, 100).await.unwrap();
        drop(second);
        let _third = held(&sending, 4 * MIB).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_in_memory_is_bounded_and_gets_what_becomes_free() {
        let sending = Sending::new(16 * MIB);
        let all = held(&sending, 8 * MIB).await.unwrap();
        let waits = held(&sending, 3 * MIB);
        let refused = async {
            tokio::task::yield_now().await;
            let started = Instant::now();
            assert!(held(&sending, 3 * MIB).await.is_err());
            assert!(started.elapsed().is_zero(), "there is no place to wait");
            drop(all);
        };
        let (waited, ()) = tokio::join!(waits, refused);
        assert!(waited.is_ok());
    }

    #[test]
    fn what_was_done_is_not_safe_to_retry_when_its_answer_is_lost() {
        for is_done in [false, true] {
            let answer = Unread(1).refusal(is_done).into_answer(Form::Json);
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers().contains_key(RETRY_AFTER), !is_done);
            let problem: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(problem["safe_to_retry"], !is_done, "{problem}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_estimate_shrinks_to_what_is_sent() {
        let sending = Sending::new(16 * MIB);
        let estimate = sending.before_load(100 * MIB).await.unwrap();
        assert!(sending.before_load(1).await.is_err(), "it takes all, and no more");
        let _sent = sending.hold(estimate, 5 * MIB).await.unwrap();
        let estimate = sending.before_load(3 * MIB).await.unwrap();
        let _small = sending.hold(estimate, 10).await.unwrap();
        assert!(sending.before_load(3 * MIB).await.is_ok());
    }
}
