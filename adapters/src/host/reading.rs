//! Reading: the bytes of answers that are being read from hosts, of all hosts together.
//!
//! Bytes are taken from the bound before a body is read: all that the answer announces, or step by step when it announces no
//! length. What the place of its turn counts of an answer (see [`AnswerBound`]) is not taken from this bound. Unread bytes stay in
//! the host's socket. When too few bytes are free, answers wait in one fair line, for at most [`LINE`], for the *reserve*, which
//! fits the largest answer. One answer at a time has the reserve and is read to its end. So two half-read answers never wait for
//! each other.

use std::sync::Arc;
use std::time::Duration;

use tidegate_stages::invocation::{AnswerBound, NoBytes};
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
    /// Counts its part of the answer first.
    answer: Option<Arc<dyn AnswerBound>>,
    /// What may be read.
    reached: usize,
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

    /// Returns a guard that holds no bytes yet. `answer` counts its part of the answer first.
    pub(crate) fn enter(&self, answer: Option<Arc<dyn AnswerBound>>) -> Hold {
        let (reading, free) = (self.clone(), self.free.enter());
        Hold { reading, answer, reached: 0, free, bytes: 0, reserve: None }
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

    /// Holds at least that many bytes; waits in line when they are not free. `is_whole`: the answer has no more than these.
    /// Cancel safe.
    pub(crate) async fn reach(&mut self, bytes: usize, is_whole: bool) -> Result<(), Busy> {
        if bytes <= self.reached {
            return Ok(());
        }
        let own = match &self.answer {
            None => bytes,
            Some(answer) => match answer.try_reach(bytes) {
                Some(own) => own,
                None => answer.clone().reach(bytes, is_whole).await.map_err(|NoBytes| Busy)?,
            },
        };
        self.hold(own).await?;
        self.reached = bytes;
        Ok(())
    }

    /// Takes bytes of the bound.
    async fn hold(&mut self, bytes: usize) -> Result<(), Busy> {
        if self.reserve.is_some() || bytes <= self.bytes {
            return Ok(());
        }
        if self.free.try_grow(bytes - self.bytes) {
            self.bytes = bytes;
            return Ok(());
        }
        self.waits(true);
        let reserve = timeout(LINE, self.reading.reserve.clone().acquire_owned()).await;
        self.waits(false);
        self.reserve = Some(reserve.ok().and_then(Result::ok).ok_or(Busy)?);
        Ok(())
    }

    fn waits(&self, waits: bool) {
        if let Some(answer) = &self.answer {
            answer.waits(waits);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_that_hold_a_part_and_want_more_are_read_one_after_the_other() {
        let reading = Reading::new(30, 20);
        let (mut one, mut other) = (reading.enter(None), reading.enter(None));
        one.reach(5, true).await.unwrap();
        other.reach(5, true).await.unwrap();
        one.reach(10, true).await.unwrap();
        one.reach(20, true).await.unwrap();
        let ends = async {
            tokio::task::yield_now().await;
            drop(one);
        };
        let (waited, ()) = tokio::join!(other.reach(20, true), ends);
        waited.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end_and_small_answers_take_what_is_free() {
        let reading = Reading::new(30, 20);
        let (mut large, mut second) = (reading.enter(None), reading.enter(None));
        large.reach(20, true).await.unwrap();
        let started = Instant::now();
        assert_eq!(second.reach(20, true).await, Err(Busy));
        assert_eq!(started.elapsed(), LINE);
        let mut small = reading.enter(None);
        small.reach(10, true).await.unwrap();
        assert!(started.elapsed() == LINE, "it does not wait");
    }
}
