//! Signal: cancels a running turn, and shows what a parked turn tries again. One per call; it takes no lock.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::blocked_on::RetryOf;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Signal {
    is_cancelled: AtomicBool,
    waker: AtomicWaker,
    /// The number of the [`RetryOf`] that is tried again, plus 1; 0 for none.
    retry_of: AtomicU8,
}

impl Signal {
    /// Tells the turn that it is cancelled.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Waits until the turn is cancelled.
    pub(crate) fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Notes what is tried again if the turn is parked.
    pub(crate) fn parked(&self, of: Option<RetryOf>) {
        self.retry_of.store(of.map_or(0, |of| of as u8 + 1), Ordering::Release);
    }

    /// What is tried again.
    pub(crate) fn retry_of(&self) -> Option<RetryOf> {
        let number = self.retry_of.load(Ordering::Acquire).checked_sub(1)?;
        RetryOf::ALL.get(usize::from(number)).copied()
    }
}
