//! Client: the bus over a connection to NATS servers.
//!
//! A broken connection is replaced by one to any of the servers, after pauses that grow. No message is sent twice.

use std::fmt;
use std::future::{Ready, ready};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Gauge, counter, gauge};
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::RngExt;
use tidegate_stages::ports::{Bus, BusError, BusMessage, BusSubscription, Delivered};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::replies::Replies;
use crate::metrics::{NATS_BROADCASTS_CONNECTED, NATS_CONNECTED, NATS_MESSAGES_DROPPED_TOTAL};
use crate::tls::{ClientFiles, TlsError};

/// Messages of one subscription that wait to be read.
const WAITING: usize = 8_192;
/// Messages that wait to be sent.
const TO_SEND: usize = 2_048;
/// How long a message may wait for a place among them, beside its own limit.
const SEND_LIMIT: Duration = Duration::from_secs(2);
/// How long one try to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The first pause between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Where NATS is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsOptions {
    /// Its servers.
    pub servers: Vec<String>,
    /// What it is shown.
    pub auth: NatsAuth,
    /// The TLS of connections; `None`: they are in the clear.
    pub tls: Option<ClientFiles>,
    /// The longest pause between tries to connect.
    pub longest_pause: Duration,
}

/// What goes over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Calls between actor systems.
    Calls,
    /// Broadcasts between members of a system.
    Broadcasts,
    /// All of these.
    Both,
}

impl Carries {
    /// What tells whether there is a connection.
    fn gauges(self) -> Vec<Gauge> {
        let mut gauges = Vec::new();
        if self != Self::Broadcasts {
            gauges.push(gauge!(NATS_CONNECTED));
        }
        if self != Self::Calls {
            gauges.push(gauge!(NATS_BROADCASTS_CONNECTED));
        }
        gauges
    }

    /// What does not work without a connection.
    fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls for other actor systems",
            Self::Broadcasts => "broadcasts to other members",
            Self::Both => "calls for other actor systems and broadcasts to other members",
        }
    }
}

/// The library says of a handshake that fails: IO error.
const TLS_HINT: &str = "; TLS is on: does the server speak it, and is its certificate known to TIDEGATE_NATS_TLS_CA, and ours to it?";

/// What the proxy shows to NATS.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsAuth {
    /// Nothing.
    Nothing,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// A token, or a JWT that needs no signature. A server reads the one that it wants.
    Bearer(Zeroizing<String>),
    /// What is in this file: a JWT, and the seed of the key that signs for it.
    Credentials(PathBuf),
}

impl NatsAuth {
    /// The file that is shown, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Credentials(file) => Some(file),
            Self::Nothing | Self::Password { .. } | Self::Bearer(_) => None,
        }
    }

    /// Reads what is shown, as a start does. Asks no server.
    ///
    /// # Errors
    /// When it is a file that cannot be used.
    pub async fn check(&self) -> Result<(), NatsError> {
        show(self).await.map(drop)
    }
}

impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Password { .. } => "Password(masked)",
            Self::Bearer(_) => "Bearer(masked)",
            Self::Credentials(_) => "Credentials(masked)",
        })
    }
}

/// NATS cannot be used as it is set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// An address or a file of credentials.
    #[error("NATS cannot be used: {0}")]
    Unusable(String),
    /// A certificate or a key.
    #[error("{0}")]
    Tls(TlsError),
}

/// The bus; see the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NatsBus {
    client: Client,
    replies: Arc<Replies>,
}

impl NatsBus {
    /// Begins to connect, and goes on with it in the background. Its task ends with `ended`.
    ///
    /// # Errors
    /// When a server's address cannot be read.
    pub async fn start(
        options: &NatsOptions,
        carries: Carries,
        background: &TaskTracker,
        ended: &CancellationToken,
    ) -> Result<Self, NatsError> {
        let wrong = |error: &dyn fmt::Display| NatsError::Unusable(error.to_string());
        let longest = options.longest_pause;
        let mut connect = show(&options.auth).await?;
        if let Some(files) = &options.tls {
            let config = files.read().map_err(NatsError::Tls)?;
            connect = connect.require_tls(true).tls_client_config(config);
        }
        let connect = connect
            // The name that Spawn's connections have.
            .name("spawn.internal.nats")
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_LIMIT)
            .subscription_capacity(WAITING)
            .client_capacity(TO_SEND)
            .reconnect_delay_callback(move |attempts| pause(attempts, longest))
            .event_callback(watch(options.tls.is_some(), carries));
        let client = connect.connect(&options.servers).await.map_err(|error| wrong(&error))?;
        let replies = Replies::new(client.new_inbox());
        let answers = client.subscribe(replies.subject()).await.map_err(|error| wrong(&error))?;
        background.spawn(replies.clone().run(answers, ended.clone()));
        Ok(Self { client, replies })
    }

    /// Waits until what is to be sent is sent, for a time.
    pub async fn flush(&self) {
        if self.check_connected().is_ok()
            && !matches!(timeout(SEND_LIMIT, self.client.flush()).await, Ok(Ok(())))
        {
            warn!("the last messages to NATS may be lost");
        }
    }

    fn check_connected(&self) -> Result<(), BusError> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err(BusError::Away("it is made again as soon as a server is there".into())),
        }
    }

    fn check_size(&self, message: &BusMessage) -> Result<(), BusError> {
        let headers: usize =
            message.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let bytes = message.body.len() + headers + "NATS/1.0\r\n\r\n".len();
        let limit = self.client.max_payload();
        if bytes > limit { Err(BusError::TooLarge { bytes, limit }) } else { Ok(()) }
    }

    async fn request(
        self,
        subject: String,
        message: BusMessage,
        limit: Duration,
    ) -> Result<BusMessage, BusError> {
        let until = Instant::now() + limit;
        self.check_connected()?;
        self.check_size(&message)?;
        let mut waiting = self.replies.begin();
        let BusMessage { headers, body } = message;
        let (reply, headers) = (waiting.subject(), to_headers(headers));
        let to = subject.clone();
        let send = async {
            match headers {
                Some(headers) => {
                    self.client.publish_with_reply_and_headers(to, reply, headers, body).await
                }
                None => self.client.publish_with_reply(to, reply, body).await,
            }
        };
        match timeout_at(until.min(Instant::now() + SEND_LIMIT), send).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(BusError::Away(error.to_string())),
            Err(_) => return Err(BusError::Away("too many messages wait to be sent".into())),
        }
        match timeout_at(until, &mut waiting.answer).await {
            Ok(Ok(answer)) if answer.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(BusError::NobodyThere(subject))
            }
            Ok(Ok(answer)) => Ok(message_of(answer).message),
            Ok(Err(_)) => Err(BusError::Lost("the proxy ends".into())),
            Err(_) => Err(BusError::NoAnswer(limit)),
        }
    }

    async fn publish(self, subject: String, message: BusMessage) -> Result<(), BusError> {
        self.check_size(&message)?;
        let BusMessage { headers, body } = message;
        let send = async {
            match to_headers(headers) {
                Some(headers) => self.client.publish_with_headers(subject, headers, body).await,
                None => self.client.publish(subject, body).await,
            }
        };
        match timeout(SEND_LIMIT, send).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BusError::Away(error.to_string())),
            Err(_) => Err(BusError::Away("too many messages wait to be sent".into())),
        }
    }
}

impl Bus for NatsBus {
    fn request(
        &self,
        subject: String,
        message: BusMessage,
        limit: Duration,
    ) -> BoxFuture<'static, Result<BusMessage, BusError>> {
        Box::pin(self.clone().request(subject, message, limit))
    }

    fn publish(
        &self,
        subject: String,
        message: BusMessage,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(self.clone().publish(subject, message))
    }

    fn publish_now(
        &self,
        subject: String,
        message: BusMessage,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        let bus = self.clone();
        Box::pin(async move {
            bus.check_connected()?;
            bus.clone().publish(subject, message).await?;
            match timeout(SEND_LIMIT, bus.client.flush()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(BusError::Away(error.to_string())),
                Err(_) => Err(BusError::Away("the connection takes nothing".into())),
            }
        })
    }

    fn subscribe(
        &self,
        subject: String,
        queue: Option<String>,
    ) -> BoxFuture<'static, Result<Box<dyn BusSubscription>, BusError>> {
        let client = self.client.clone();
        Box::pin(async move {
            let away = |error: &dyn std::fmt::Display| BusError::Away(error.to_string());
            let subscribe = async {
                match queue {
                    Some(queue) => client.queue_subscribe(subject, queue).await,
                    None => client.subscribe(subject).await,
                }
            };
            match timeout(SEND_LIMIT, subscribe).await {
                Ok(Ok(subscriber)) => Ok(Box::new(Subscription(subscriber)) as _),
                Ok(Err(error)) => Err(away(&error)),
                Err(_) => Err(away(&"too many messages wait to be sent")),
            }
        })
    }
}

/// Options that show this.
async fn show(auth: &NatsAuth) -> Result<ConnectOptions, NatsError> {
    Ok(match auth.clone() {
        NatsAuth::Nothing => ConnectOptions::new(),
        NatsAuth::Password { user, password } => {
            ConnectOptions::with_user_and_password(user, password.to_string())
        }
        NatsAuth::Bearer(token) => ConnectOptions::with_auth_callback(move |_nonce| {
            let mut auth = async_nats::Auth::new();
            (auth.jwt, auth.token) = (Some(token.to_string()), Some(token.to_string()));
            async move { Ok(auth) }
        }),
        NatsAuth::Credentials(path) => {
            let read = ConnectOptions::with_credentials_file(&path).await;
            read.map_err(|error| {
                let setting = format!("TIDEGATE_NATS_CREDS_FILE={}", path.display());
                NatsError::Unusable(format!("{setting}: {error}"))
            })?
        }
    })
}

/// A subscription.
#[derive(Debug)]
struct Subscription(Subscriber);

impl BusSubscription for Subscription {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>> {
        Box::pin(async { self.0.next().await.map(message_of) })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Without a connection there is nothing on its way.
            if let Err(error) = self.0.drain().await {
                warn!(%error, "a subscription was not ended");
            }
        })
    }
}

/// `None`: there are none, and the message is sent without that part.
fn to_headers(headers: Vec<(String, String)>) -> Option<HeaderMap> {
    if headers.is_empty() {
        return None;
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        // What no header can carry is left out: nothing that decides is in it.
        if let (Ok(name), Ok(value)) =
            (name.parse::<async_nats::HeaderName>(), value.parse::<async_nats::HeaderValue>())
        {
            map.insert(name, value);
        }
    }
    Some(map)
}

fn message_of(message: Message) -> Delivered {
    let headers = message.headers.as_ref().map(|headers| {
        let pairs = headers.iter().filter_map(|(name, values)| {
            values.first().map(|value| (name.to_string(), value.to_string()))
        });
        pairs.collect()
    });
    let body = message.payload;
    let message_here = BusMessage { headers: headers.unwrap_or_default(), body };
    Delivered { message: message_here, reply: message.reply.map(|reply| reply.to_string()) }
}

/// The pause before a try to connect, counted from 1 after the last success: none, then twice as long each time, shortened at
/// random so that not all proxies come at once.
fn pause(attempts: usize, longest: Duration) -> Duration {
    let Some(doublings) = attempts.checked_sub(2) else { return Duration::ZERO };
    let doublings = u32::try_from(doublings.min(16)).unwrap_or(16);
    let full = (FIRST_PAUSE * 2_u32.pow(doublings)).min(longest);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Logs and counts what happens to the connection. A reason why there is none is logged once.
fn watch(
    is_encrypted: bool,
    carries: Carries,
) -> impl Fn(Event) -> Ready<()> + Send + Sync + 'static {
    let told = Arc::new(Mutex::new(String::new()));
    let gauges = carries.gauges();
    let is_connected = move |value: f64| gauges.iter().for_each(|gauge| gauge.set(value));
    is_connected(0.0);
    move |event| {
        match event {
            Event::Connected => {
                is_connected(1.0);
                told.lock().clear();
                info!("connected to NATS");
            }
            Event::Disconnected => {
                is_connected(0.0);
                let fail = carries.name();
                warn!("no connection to NATS: {fail} fail until it is made again");
            }
            Event::SlowConsumer(_) => counter!(NATS_MESSAGES_DROPPED_TOTAL).increment(1),
            Event::ServerError(_) | Event::ClientError(_) => {
                let hint = if is_encrypted { TLS_HINT } else { "" };
                let text = format!("{event}{hint}");
                let mut told = told.lock();
                if *told != text {
                    warn!(error = text, "NATS");
                    *told = text;
                }
            }
            _ => {}
        }
        ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let longest = Duration::from_secs(3);
        assert_eq!((pause(0, longest), pause(1, longest)), (Duration::ZERO, Duration::ZERO));
        for (attempts, full) in [(2, 50), (3, 100), (4, 200), (8, 3_000), (1_000_000, 3_000)] {
            let (found, full) = (pause(attempts, longest), Duration::from_millis(full));
            assert!(found <= full && found >= full / 2, "{attempts}: {found:?}");
        }
    }
}
