//! Wire bus: a broker on a machine of its own, and the bus of a proxy that reaches it over simulated TCP.
//!
//! The broker loses, delays and repeats messages; the network cuts connections off, and the machine of the broker crashes. As with
//! NATS, a broken connection is noticed by its silence and made again; who is subscribed stays so; no message is sent twice.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_stages::ports::{Bus, BusError, BusMessage, BusSubscription, Delivered};
use tidegate_stages::testkit::broker::{Broker, BrokerFaults};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

use crate::millis;

/// The machine of the broker.
pub(crate) const BROKER: &str = "broker";
const PORT: u16 = 4222;
/// How often each side says something.
const BEAT: Duration = millis(40);
/// A side that says nothing for so long is gone.
const SILENCE: Duration = millis(160);
const CONNECT: Duration = millis(100);
const AGAIN: Duration = millis(20);
/// Frames that wait to be sent.
const WAITING: usize = 1_024;

#[derive(Debug, Serialize, Deserialize)]
enum Frame {
    Beat,
    Subscribe { id: u64, subject: String, queue: Option<String> },
    Unsubscribe { id: u64 },
    Publish { subject: String, message: Told },
    Request { id: u64, subject: String, message: Told, limit: Duration },
    Message { id: u64, message: Told, reply: Option<String> },
    Answer { id: u64, answer: Result<Told, NoAnswer> },
}

/// A message on the wire.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
enum NoAnswer {
    NobodyThere,
    TooLate,
}

impl From<BusMessage> for Told {
    fn from(message: BusMessage) -> Self {
        Self { headers: message.headers, body: message.body.to_vec() }
    }
}

impl From<Told> for BusMessage {
    fn from(told: Told) -> Self {
        Self { headers: told.headers, body: told.body.into() }
    }
}

/// Exchanges frames until the other side is gone.
async fn exchange(
    stream: TcpStream,
    frames: &mut mpsc::Receiver<Frame>,
    first: Vec<Frame>,
    mut take: impl FnMut(Frame),
) -> io::Result<()> {
    let (mut input, mut output) = split(stream);
    let read = async {
        loop {
            let frame = timeout(SILENCE, read(&mut input)).await.map_err(io::Error::other)??;
            take(frame);
        }
    };
    let write = async {
        for frame in first {
            write(&mut output, &frame).await?;
        }
        let mut beat = interval(BEAT);
        loop {
            let frame = tokio::select! {
                frame = frames.recv() => frame.ok_or(io::ErrorKind::BrokenPipe)?,
                _ = beat.tick() => Frame::Beat,
            };
            write(&mut output, &frame).await?;
        }
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

async fn read(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut bytes = vec![0; input.read_u32().await?.try_into().expect("32 bits")];
    input.read_exact(&mut bytes).await?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

async fn write(output: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let body = serde_json::to_vec(frame)?;
    let mut bytes = u32::try_from(body.len()).expect("a short frame").to_be_bytes().to_vec();
    bytes.extend(body);
    output.write_all(&bytes).await
}

/// The software of the broker's machine. A crash loses all that it knows.
pub(crate) async fn run_broker(seed: u64, faults: BrokerFaults) -> turmoil::Result {
    let broker = Broker::new(seed, faults);
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, broker.clone()));
    }
}

async fn serve(stream: TcpStream, broker: Broker) {
    let (answers, mut frames) = mpsc::channel(WAITING);
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut known = BTreeSet::new();
    let take = |frame| {
        let (broker, answers) = (broker.clone(), answers.clone());
        match frame {
            Frame::Subscribe { id, subject, queue } if known.insert(id) => {
                let subscribed = broker.subscribe(subject, queue).now_or_never();
                let mut subscription = subscribed.expect("at once").expect("it succeeds");
                tasks.spawn(async move {
                    while let Some(Delivered { message, reply }) = subscription.next().await {
                        let frame = Frame::Message { id, message: message.into(), reply };
                        if answers.send(frame).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Frame::Publish { subject, message } => {
                let published = broker.publish(subject, message.into()).now_or_never();
                published.expect("at once").expect("it succeeds");
            }
            Frame::Request { id, subject, message, limit } => {
                tasks.spawn(async move {
                    let answer = broker.request(subject, message.into(), limit).await;
                    let answer = answer.map(Told::from).map_err(|error| match error {
                        BusError::NobodyThere(_) => NoAnswer::NobodyThere,
                        _ => NoAnswer::TooLate,
                    });
                    // The other side may be gone.
                    drop(answers.send(Frame::Answer { id, answer }).await);
                });
            }
            _ => {}
        }
    };
    // A connection that breaks is the other side's to make again. What was subscribed over it ends with it.
    drop(exchange(stream, &mut frames, Vec::new(), take).await);
}

/// The bus of a proxy; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WireBus {
    state: Arc<Mutex<State>>,
    frames: mpsc::Sender<Frame>,
}

#[derive(Debug, Default)]
struct State {
    is_connected: bool,
    newest: u64,
    subscriptions: BTreeMap<u64, Subscribed>,
    waiting: BTreeMap<u64, oneshot::Sender<Result<BusMessage, BusError>>>,
}

#[derive(Debug)]
struct Subscribed {
    subject: String,
    queue: Option<String>,
    messages: mpsc::Sender<Delivered>,
}

impl State {
    fn number(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Message { id, message, reply } => {
                if let Some(subscribed) = self.subscriptions.get(&id) {
                    // A full one loses it.
                    drop(
                        subscribed.messages.try_send(Delivered { message: message.into(), reply }),
                    );
                }
            }
            Frame::Answer { id, answer } => {
                let answer = answer.map(BusMessage::from).map_err(|error| match error {
                    NoAnswer::NobodyThere => BusError::NobodyThere("the subject".into()),
                    NoAnswer::TooLate => BusError::NoAnswer(Duration::ZERO),
                });
                if let Some(waiting) = self.waiting.remove(&id) {
                    drop(waiting.send(answer));
                }
            }
            _ => {}
        }
    }
}

impl WireBus {
    /// The bus, and what connects it for as long as it is polled.
    pub(crate) fn new() -> (Self, impl Future<Output = ()>) {
        let (sender, mut frames) = mpsc::channel(WAITING);
        let state = Arc::<Mutex<State>>::default();
        let bus = Self { state: state.clone(), frames: sender };
        let connect = async move {
            loop {
                if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect((BROKER, PORT))).await {
                    let first = {
                        let mut state = state.lock();
                        state.is_connected = true;
                        let all = state.subscriptions.iter();
                        all.map(|(id, it)| subscribe(*id, it)).collect()
                    };
                    let take = |frame| state.lock().take(frame);
                    drop(exchange(stream, &mut frames, first, take).await);
                    let mut state = state.lock();
                    state.is_connected = false;
                    for waiting in std::mem::take(&mut state.waiting).into_values() {
                        drop(waiting.send(Err(BusError::Lost("the connection broke".into()))));
                    }
                }
                sleep(AGAIN).await;
            }
        };
        (bus, connect)
    }

    fn send(&self, frame: Frame) -> Result<(), BusError> {
        if !self.state.lock().is_connected {
            return Err(BusError::Away("none yet".into()));
        }
        self.frames.try_send(frame).map_err(|error| BusError::Away(error.to_string()))
    }
}

fn subscribe(id: u64, subscribed: &Subscribed) -> Frame {
    let Subscribed { subject, queue, .. } = subscribed;
    Frame::Subscribe { id, subject: subject.clone(), queue: queue.clone() }
}

impl Bus for WireBus {
    fn request(
        &self,
        subject: String,
        message: BusMessage,
        limit: Duration,
    ) -> BoxFuture<'static, Result<BusMessage, BusError>> {
        let bus = self.clone();
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            let id = {
                let mut state = bus.state.lock();
                let id = state.number();
                state.waiting.insert(id, sender);
                id
            };
            let answer = async {
                bus.send(Frame::Request { id, subject, message: message.into(), limit })?;
                match timeout(limit, answer).await {
                    Ok(Ok(answer)) => answer,
                    _ => Err(BusError::NoAnswer(limit)),
                }
            };
            let answer = answer.await;
            bus.state.lock().waiting.remove(&id);
            answer
        })
    }

    fn publish(
        &self,
        subject: String,
        message: BusMessage,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        let sent = self.send(Frame::Publish { subject, message: message.into() });
        Box::pin(std::future::ready(sent))
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
        let (messages, receiver) = mpsc::channel(WAITING);
        let subscribed = Subscribed { subject, queue, messages };
        let (id, frame) = {
            let mut state = self.state.lock();
            let id = state.number();
            let frame = subscribe(id, &subscribed);
            state.subscriptions.insert(id, subscribed);
            (id, frame)
        };
        // Without a connection it is subscribed as soon as there is one.
        drop(self.send(frame));
        let subscription = Subscription { id, receiver, bus: self.clone() };
        Box::pin(std::future::ready(Ok(Box::new(subscription) as _)))
    }
}

#[derive(Debug)]
struct Subscription {
    id: u64,
    receiver: mpsc::Receiver<Delivered>,
    bus: WireBus,
}

impl BusSubscription for Subscription {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>> {
        Box::pin(self.receiver.recv())
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        self.bus.state.lock().subscriptions.remove(&self.id);
        drop(self.bus.send(Frame::Unsubscribe { id: self.id }));
        Box::pin(std::future::ready(()))
    }
}
