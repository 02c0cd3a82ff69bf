//! Outgoing: sends the broadcasts of this proxy to other members.
//!
//! A broadcast is numbered and queued at once; one task sends what is queued. What is dropped has a number too, so the other
//! members count it as missed.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_pipeline::Bound;
use tidegate_stages::ports::{Bus, BusError, BusMessage, MemberBroadcast, OtherMembers};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::nats::metrics::BroadcastsOut;
use crate::nats::{context, subject};
use crate::wire::{self, Numbered};

/// Topics whose messages are counted.
const STREAMS: usize = 16_384;
/// How long the end of the proxy waits for what is queued.
const LAST_MESSAGES: Duration = Duration::from_secs(2);

/// Where broadcasts go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NatsMembers {
    publisher: u128,
    streams: Arc<Mutex<Streams>>,
    queue: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
    counted: BroadcastsOut,
}

/// A message that waits to be sent.
#[derive(Debug)]
struct Queued {
    subject: String,
    message: BusMessage,
    _bytes: OwnedSemaphorePermit,
}

impl NatsMembers {
    /// Begins to send; at most so many messages wait. The task ends after `ended`.
    pub fn start(
        bus: Arc<dyn Bus>,
        bound: Bound,
        background: &TaskTracker,
        ended: CancellationToken,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(bound.events.clamp(1, Semaphore::MAX_PERMITS));
        let bytes = bound.bytes.clamp(1, u32::MAX as usize);
        let counted = BroadcastsOut::new();
        background.spawn(send_all(bus, waiting, counted.clone(), ended));
        Self {
            publisher: rand::random(),
            streams: Arc::new(Mutex::new(Streams { newest: 0, of_topic: HashMap::new() })),
            queue,
            bytes: Arc::new(Semaphore::new(bytes)),
            counted,
        }
    }

    /// What names this proxy in its messages.
    pub(super) fn publisher(&self) -> u128 {
        self.publisher
    }
}

impl OtherMembers for NatsMembers {
    fn publish(&self, broadcast: MemberBroadcast) {
        let headers = context::headers(&broadcast.traceparent);
        let subject = subject::channel(&broadcast.system, &broadcast.topic);
        let numbered = self.streams.lock().number(self.publisher, &subject);
        let message =
            BusMessage { headers, body: wire::encode_member_broadcast(broadcast, numbered) };
        let bytes = u32::try_from(message.body.len() + subject.len()).unwrap_or(u32::MAX);
        let queued = self.bytes.clone().try_acquire_many_owned(bytes).is_ok_and(|bytes| {
            self.queue.try_send(Queued { subject, message, _bytes: bytes }).is_ok()
        });
        if !queued {
            self.counted.dropped.increment(1);
        }
    }
}

/// Sends what is queued, one after the other.
async fn send_all(
    bus: Arc<dyn Bus>,
    mut waiting: mpsc::Receiver<Queued>,
    counted: BroadcastsOut,
    ended: CancellationToken,
) {
    while let Some(Some(queued)) = ended.run_until_cancelled(waiting.recv()).await {
        send(&*bus, queued, &counted).await;
    }
    waiting.close();
    let rest = async {
        while let Some(queued) = waiting.recv().await {
            send(&*bus, queued, &counted).await;
        }
    };
    if timeout(LAST_MESSAGES, rest).await.is_err() {
        warn!("the last broadcasts did not reach other members");
    }
}

async fn send(bus: &dyn Bus, queued: Queued, counted: &BroadcastsOut) {
    let Queued { subject, message, _bytes } = queued;
    match bus.publish_now(subject.clone(), message).await {
        Ok(()) => counted.sent.increment(1),
        Err(error) => {
            counted.unsent.increment(1);
            // That there is no connection is logged by whoever makes it.
            if matches!(error, BusError::TooLarge { .. }) {
                warn!(subject, %error, "a broadcast is not sent to other members (max_payload of NATS)");
            }
        }
    }
}

/// Counts the messages of each topic.
#[derive(Debug)]
struct Streams {
    newest: u64,
    of_topic: HashMap<String, Stream>,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    sent: u64,
    began: Instant,
}

impl Streams {
    /// Numbers the next message of a subject. A topic that was forgotten begins a new stream.
    fn number(&mut self, publisher: u128, subject: &str) -> Numbered {
        if self.of_topic.len() >= STREAMS && !self.of_topic.contains_key(subject) {
            self.of_topic.clear();
        }
        let newest = &mut self.newest;
        let stream = self.of_topic.entry_ref(subject).or_insert_with(|| {
            *newest += 1;
            Stream { number: *newest, sent: 0, began: Instant::now() }
        });
        stream.sent += 1;
        let age_ms = u64::try_from(stream.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Numbered { publisher, stream: stream.number, sequence: stream.sent, age_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn topics_have_numbers_of_their_own_and_never_use_a_stream_again() {
        let mut streams = Streams { newest: 0, of_topic: HashMap::new() };
        let mut number = |subject: &str| {
            let Numbered { stream, sequence, .. } = streams.number(7, subject);
            (stream, sequence)
        };
        assert_eq!(["a", "a", "b", "a"].map(&mut number), [(1, 1), (1, 2), (2, 1), (1, 3)]);
        for other in 0..STREAMS - 2 {
            number(&other.to_string());
        }
        assert_eq!(number("a"), (1, 4), "the bound is not passed");
        let newest = STREAMS as u64;
        assert_eq!(number("one more"), (newest + 1, 1));
        assert_eq!(number("a"), (newest + 2, 1), "it was forgotten");
    }
}
