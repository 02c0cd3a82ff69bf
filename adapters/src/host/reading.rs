//! Reading: the bytes of answers that are being read from hosts, of all hosts together.
//!
//! Bytes are taken from the bound before a body is read: all that the answer announces, or step by step when it announces no
//! length. Unread bytes stay in the host's socket. When too few bytes are free, answers wait in one fair line, for at most
//! [`LINE`], for the *reserve*, which fits the largest answer. One answer at a time has the reserve and is read to its end. So
//! two half-read answers never wait for each other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::byte_bound::{ByteBound, HeldBytes};

/// How long an answer waits in line.
const LINE: Duration = Duration::from_secs(10);
/// How long a host may send no byte of an answer.
const SILENCE: Duration = Duration::from_secs(2);

/// The bound; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    free: Arc<ByteBound>,
    reserve: Arc<Semaphore>,
    /// Largest answer.
    largest: usize,
    /// How long a host may send no byte of an answer.
    silence: Duration,
}

/// The bytes that one answer holds until it is read and decoded.
#[derive(Debug)]
pub(crate) struct Hold {
    reading: Reading,
    free: HeldBytes,
    bytes: usize,
    reserve: Option<OwnedSemaphorePermit>,
}

/// The error: other answers hold all bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

impl Reading {
    /// `limit` bytes in all, of which the largest answer is the reserve.
    pub(crate) fn new(limit: usize, largest: usize) -> Self {
        let free = ByteBound::new(limit.saturating_sub(largest));
        Self { free, reserve: Arc::new(Semaphore::new(1)), largest, silence: SILENCE }
    }

    /// A bound for one answer at a time.
    pub(crate) fn alone(largest: usize, silence: Duration) -> Self {
        Self { silence, ..Self::new(largest, largest) }
    }

    /// Returns a guard that holds no bytes yet.
    pub(crate) fn enter(&self) -> Hold {
        Hold { reading: self.clone(), free: self.free.enter(), bytes: 0, reserve: None }
    }
}

impl Hold {
    /// Largest answer, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.reading.largest
    }

    /// How long a host may send no byte of it.
    pub(crate) fn silence(&self) -> Duration {
        self.reading.silence
    }

    /// Holds at least that many bytes; waits in line when they are not free. Cancel safe.
    pub(crate) async fn reach(&mut self, bytes: usize) -> Result<(), Busy> {
        if self.reserve.is_some() || bytes <= self.bytes {
            return Ok(());
        }
        if self.free.try_grow(bytes - self.bytes) {
            self.bytes = bytes;
            return Ok(());
        }
        let reserve = timeout(LINE, self.reading.reserve.clone().acquire_owned()).await;
        self.reserve = Some(reserve.ok().and_then(Result::ok).ok_or(Busy)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_that_hold_a_part_and_want_more_are_read_one_after_the_other() {
        let reading = Reading::new(30, 20);
        let (mut one, mut other) = (reading.enter(), reading.enter());
        one.reach(5).await.unwrap();
        other.reach(5).await.unwrap();
        one.reach(10).await.unwrap();
        one.reach(20).await.unwrap();
        let ends = async {
            tokio::task::yield_now().await;
            drop(one);
        };
        let (waited, ()) = tokio::join!(other.reach(20), ends);
        waited.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end_and_small_answers_take_what_is_free() {
        let reading = Reading::new(30, 20);
        let (mut large, mut second) = (reading.enter(), reading.enter());
        large.reach(20).await.unwrap();
        let started = Instant::now();
        assert_eq!(second.reach(20).await, Err(Busy));
        assert_eq!(started.elapsed(), LINE);
        let mut small = reading.enter();
        small.reach(10).await.unwrap();
        assert!(started.elapsed() == LINE, "it does not wait");
    }
}
