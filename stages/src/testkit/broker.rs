//! Broker: a simulated bus that loses, delays and repeats messages. The same seed does the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::ports::{Bus, BusError, BusMessage, BusSubscription, Delivered};

/// What a message may meet, each in percent.
#[derive(Debug, Clone, Copy)]
pub struct BrokerFaults {
    /// It is lost.
    pub lost: u64,
    /// It comes twice, which no NATS server does.
    pub repeated: u64,
    /// How long it is on its way at most.
    pub delay: Duration,
}

/// The bus; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    state: Arc<Mutex<State>>,
    seed: u64,
    faults: BrokerFaults,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    random: u64,
    newest: u64,
    subscriptions: Vec<Subscriber>,
    waiting: HashMap<String, oneshot::Sender<BusMessage>>,
}

#[derive(Debug)]
struct Subscriber {
    subject: String,
    queue: Option<String>,
    sender: mpsc::Sender<Delivered>,
}

impl Subscriber {
    /// Whether messages of a subject come to it.
    fn takes(&self, subject: &str) -> bool {
        let below = |prefix: &str| {
            subject.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && !rest.contains('.'))
        };
        !self.sender.is_closed()
            && (self.subject == subject || self.subject.strip_suffix('*').is_some_and(below))
    }
}

impl State {
    /// A number below `bound` (xorshift64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    fn hand_over(&mut self, subject: &str, delivered: Delivered) {
        if let Some(waiting) = self.waiting.remove(subject) {
            // Who waited may have gone.
            drop(waiting.send(delivered.message));
            return;
        }
        let drawn = usize::try_from(self.below(u64::from(u32::MAX))).unwrap_or(0);
        let takers = self.subscriptions.iter().filter(|one| one.takes(subject));
        let mut groups: BTreeMap<&str, Vec<&Subscriber>> = BTreeMap::new();
        for one in takers {
            match &one.queue {
                Some(queue) => groups.entry(queue).or_default().push(one),
                // A full one loses it.
                None => drop(one.sender.try_send(delivered.clone())),
            }
        }
        for group in groups.into_values() {
            if let Some(one) = group.get(drawn % group.len()) {
                drop(one.sender.try_send(delivered.clone()));
            }
        }
    }
}

impl Broker {
    /// Messages meet these faults, at random.
    pub fn new(seed: u64, faults: BrokerFaults) -> Self {
        let state = State { random: seed.wrapping_mul(2).wrapping_add(1), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), seed, faults, tasks: TaskTracker::new() }
    }

    fn send(&self, subject: &str, delivered: &Delivered) {
        let mut state = self.state.lock();
        if state.below(100) < self.faults.lost {
            return;
        }
        let times = 1 + u64::from(state.below(100) < self.faults.repeated);
        let longest = u64::try_from(self.faults.delay.as_micros()).unwrap_or(u64::MAX);
        for _ in 0..times {
            let delay = Duration::from_micros(state.below(longest.saturating_add(1)));
            let (broker, subject) = (self.state.clone(), subject.to_owned());
            let delivered = delivered.clone();
            self.tasks.spawn(async move {
                sleep(delay).await;
                broker.lock().hand_over(&subject, delivered);
            });
        }
    }
}

impl Bus for Broker {
    fn request(
        &self,
        subject: String,
        message: BusMessage,
        limit: Duration,
    ) -> BoxFuture<'static, Result<BusMessage, BusError>> {
        let broker = self.clone();
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            let reply = {
                let mut state = broker.state.lock();
                if !state.subscriptions.iter().any(|one| one.takes(&subject)) {
                    return Err(BusError::NobodyThere(subject));
                }
                state.newest += 1;
                // A broker that follows another one takes no late answer for one of its own.
                let reply = format!("reply.{}.{}", broker.seed, state.newest);
                state.waiting.insert(reply.clone(), sender);
                reply
            };
            broker.send(&subject, &Delivered { message, reply: Some(reply.clone()) });
            let answered = timeout(limit, answer).await;
            broker.state.lock().waiting.remove(&reply);
            match answered {
                Ok(Ok(answer)) => Ok(answer),
                _ => Err(BusError::NoAnswer(limit)),
            }
        })
    }

    fn publish(
        &self,
        subject: String,
        message: BusMessage,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        self.send(&subject, &Delivered { message, reply: None });
        Box::pin(std::future::ready(Ok(())))
    }

    fn publish_now(
        &self,
        subject: String,
        message: BusMessage,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        self.publish(subject, message)
    }

    fn subscribe(
        &self,
        subject: String,
        queue: Option<String>,
    ) -> BoxFuture<'static, Result<Box<dyn BusSubscription>, BusError>> {
        let (sender, receiver) = mpsc::channel(1_024);
        let mut state = self.state.lock();
        state.subscriptions.retain(|one| !one.sender.is_closed());
        state.subscriptions.push(Subscriber { subject, queue, sender });
        let subscription = Subscription { receiver, state: self.state.clone() };
        Box::pin(std::future::ready(Ok(Box::new(subscription) as _)))
    }
}

#[derive(Debug)]
struct Subscription {
    receiver: mpsc::Receiver<Delivered>,
    state: Arc<Mutex<State>>,
}

impl BusSubscription for Subscription {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>> {
        Box::pin(self.receiver.recv())
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        self.receiver.close();
        self.state.lock().subscriptions.retain(|one| !one.sender.is_closed());
        Box::pin(std::future::ready(()))
    }
}
