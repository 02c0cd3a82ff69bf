//! Replies: brings answers to the requests that wait for them.
//!
//! The client of NATS has requests, too. It forgets none that got no answer, so its memory would grow with each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The requests that wait. Each has a subject of its own below one prefix.
#[derive(Debug)]
pub(super) struct Replies {
    prefix: String,
    newest: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

/// A request that waits; dropping it forgets it.
#[derive(Debug)]
pub(super) struct Waiting {
    replies: Arc<Replies>,
    number: u64,
    pub(super) answer: oneshot::Receiver<Message>,
}

impl Replies {
    /// With a prefix that nobody else has.
    pub(super) fn new(prefix: String) -> Arc<Self> {
        Arc::new(Self { prefix, newest: AtomicU64::new(0), waiting: Mutex::default() })
    }

    /// The subject of all answers.
    pub(super) fn subject(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// Begins to wait.
    pub(super) fn begin(self: &Arc<Self>) -> Waiting {
        let number = self.newest.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(number, sender);
        Waiting { replies: self.clone(), number, answer }
    }

    /// Hands answers over, until `ended`.
    pub(super) async fn run(self: Arc<Self>, mut answers: Subscriber, ended: CancellationToken) {
        while let Some(Some(answer)) = ended.run_until_cancelled(answers.next()).await {
            let number = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let waiting = number.and_then(|number: u64| self.waiting.lock().remove(&number));
            // An answer that comes too late, or again, has nobody who waits.
            if let Some(waiting) = waiting {
                drop(waiting.send(answer));
            }
        }
    }
}

impl Waiting {
    /// The subject of its answer.
    pub(super) fn subject(&self) -> String {
        format!("{}.{}", self.replies.prefix, self.number)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.replies.waiting.lock().remove(&self.number);
    }
}
