//! Incoming: takes the broadcasts of other members for the subscribers here.
//!
//! There is one subscription for each registered system, for all its topics. Its task hands each message over and waits for nothing, so
//! those of one publisher and topic stay in order.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_stages::error::Error;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Bus, BusMessage};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::NatsMembers;
use super::gaps::{Gaps, Seen};
use crate::nats::metrics::BroadcastsIn;
use crate::nats::{context, subject, systems};
use crate::wire;

/// How long a subscription may take to end.
const LAST_MESSAGES: Duration = Duration::from_secs(2);
/// At most one line of the log tells of messages that cannot be read, in this time.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// The broadcasts of other members. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NatsListening {
    mesh: Mesh,
    bus: Arc<dyn Bus>,
    publisher: u128,
    tasks: TaskTracker,
    leaving: CancellationToken,
    counted: BroadcastsIn,
    last_line: Arc<Mutex<Option<Instant>>>,
}

impl NatsListening {
    /// Begins to take broadcasts, but for those of this proxy itself.
    pub fn start(mesh: Mesh, bus: Arc<dyn Bus>, ours: &NatsMembers) -> Self {
        let listening = Self {
            mesh,
            bus,
            publisher: ours.publisher(),
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            counted: BroadcastsIn::new(),
            last_line: Arc::default(),
        };
        listening.tasks.spawn(listening.clone().follow());
        listening
    }

    /// Ends the subscriptions.
    pub async fn finish(&self) {
        self.leaving.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn follow(self) {
        let begin = |system, stop| {
            self.tasks.spawn(self.clone().listen(system, stop));
        };
        systems::follow(&self.mesh, &self.leaving, begin).await;
    }

    /// Takes the broadcasts of one system.
    async fn listen(self, system: String, stop: CancellationToken) {
        let subject = subject::channels(&system);
        let mut gaps = Gaps::new();
        let subscribed = systems::subscribe(&*self.bus, &subject, None, &stop).await;
        let Some(mut subscription) = subscribed else { return };
        info!(system, "broadcasts of other members are taken");
        while let Some(Some(broadcast)) = stop.run_until_cancelled(subscription.next()).await {
            self.take(&system, broadcast.message, &mut gaps);
        }
        if timeout(LAST_MESSAGES, subscription.close()).await.is_err() {
            warn!(system, "the subscription did not end in time");
        }
    }

    /// Hands a broadcast to the subscribers here, unless it was here before.
    fn take(&self, system: &str, message: BusMessage, gaps: &mut Gaps) {
        let traceparent = context::of(&message);
        let (mut broadcast, numbered) = match wire::member_broadcast(message.body) {
            Ok(read) if read.0.system == system => read,
            Ok(_) => return self.refuse(&"its system is not that of the subject"),
            Err(error) => return self.refuse(&error),
        };
        if numbered.publisher == self.publisher {
            return;
        }
        match gaps.see(numbered) {
            Seen::Before => return self.counted.repeated.increment(1),
            Seen::Next { missed } => self.counted.missed.increment(missed),
        }
        broadcast.traceparent = traceparent;
        match self.mesh.receive(broadcast) {
            Ok(()) => self.counted.taken.increment(1),
            Err(Error::Overloaded { .. } | Error::Draining) => self.counted.dropped.increment(1),
            Err(error) => self.refuse(&error),
        }
    }

    /// Counts a broadcast that is not taken, and says why.
    fn refuse(&self, error: &dyn std::fmt::Display) {
        self.counted.refused.increment(1);
        let mut last = self.last_line.lock();
        if last.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            *last = Some(Instant::now());
            warn!(%error, "a broadcast of another member is not taken");
        }
    }
}
