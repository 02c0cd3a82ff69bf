//! Serve: accepts connections within a bound, and shuts them down in order.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{counter, gauge};
use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{Method, Request, Response, Version, request};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tidegate_stages::identity::Identity;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::body::discard;
use super::cancelled::cancelled;
use super::listener::Listener;
use super::pace::{Pace, Paced, TooSlow, Watch};
use super::places::Places;
use super::progress::{InFlight, Progress};
use super::spare::Spare;
use super::taken::{AnswerBody, unless_untaken};
use super::{Calls, Ingress, Limits, http2, identity};
use crate::metrics::{CONNECTIONS, CONNECTIONS_CLOSED_TOTAL, CONNECTIONS_REFUSED_TOTAL};
use crate::net::Peer;
use crate::tls::{Channel, ServerTls};

/// Pause after a failed accept, for example when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection may take to end: an idle connection to finish its protocol, and a connection with a refused upload to
/// read what the client still sends.
const LAST: Duration = Duration::from_secs(1);
/// The smallest buffer bound that hyper accepts.
const LEAST_HEAD_BYTES: usize = 8_192;

/// A running server: one task that accepts, and one task per connection.
#[derive(Debug)]
pub struct Serving {
    tasks: TaskTracker,
    closing: CancellationToken,
    killed: CancellationToken,
    stopped: CancellationToken,
}

/// What answers the requests of a server.
pub(super) trait Respond: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// The bounds of its connections.
    fn limits(&self) -> &Limits;

    /// Its TLS; `None`: it speaks in the clear.
    fn tls(&self) -> Option<&ServerTls>;

    /// Answers a request of this client. Never fails, never panics.
    fn respond(
        &self,
        request: Request<Incoming>,
        client: Identity,
        at: At,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Where a request came: what its answer notes of its connection.
pub(super) struct At {
    /// The tasks of the server.
    tasks: TaskTracker,
    progress: Arc<Progress>,
    /// How long the client may take no byte of the answer.
    pub(super) write_time: Duration,
    /// Held until the answer has left.
    pub(super) in_flight: InFlight,
}

impl At {
    /// Takes, for a short time, what a client still sends of a body that nobody reads: its connection then serves on, or closes
    /// when there is more.
    pub(super) fn take_rest<B>(&self, body: B, limit: usize)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        self.tasks.spawn(linger(body, limit, self.progress.begin()));
    }
}

/// Whether the client of this request still sends its body, and has to before it reads its answer. Over HTTP/2, the rest of the
/// stream is refused. A client that asks before it sends has its answer.
pub(super) fn sends_on(head: &request::Parts, body: &impl Body) -> bool {
    head.version != Version::HTTP_2 && !body.is_end_stream() && !head.headers.contains_key(EXPECT)
}

impl<C: Calls> Respond for Ingress<C> {
    type Body = AnswerBody;

    fn limits(&self) -> &Limits {
        Ingress::limits(self)
    }

    fn tls(&self) -> Option<&ServerTls> {
        self.0.parts.tls.as_ref()
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        client: Identity,
        at: At,
    ) -> Response<AnswerBody> {
        let (head, mut body) = request.into_parts();
        let is_http2 = head.version == Version::HTTP_2;
        let response = self.handle(&head, &mut body, client).await;
        if sends_on(&head, &body) {
            at.take_rest(body, self.limits().body_bytes);
        }
        let (mut answer, unsent) = response.into_parts();
        let mut unsent = unsent.into_inner();
        // Over HTTP/1, hyper does it.
        if is_http2
            && head.method == Method::HEAD
            && let Some(unsent) = unsent.take()
        {
            answer.headers.insert(CONTENT_LENGTH, unsent.remaining().into());
        }
        let body = if is_http2 {
            AnswerBody::of_stream(unsent, at.in_flight, at.write_time)
        } else {
            AnswerBody::new(unsent, at.in_flight)
        };
        Response::from_parts(answer, body)
    }
}

/// Starts the server of the API.
pub fn serve<L: Listener, C: Calls>(listener: L, ingress: Ingress<C>) -> Serving {
    start(listener, ingress)
}

/// Starts a server.
pub(super) fn start<L: Listener, R: Respond>(listener: L, ingress: R) -> Serving {
    let serving = Serving {
        tasks: TaskTracker::new(),
        closing: CancellationToken::new(),
        killed: CancellationToken::new(),
        stopped: CancellationToken::new(),
    };
    let connections = Connections {
        builder: builder(&ingress, serving.tasks.clone()),
        ingress,
        tasks: serving.tasks.clone(),
        closing: serving.closing.clone(),
        killed: serving.killed.clone(),
    };
    let stopped = serving.stopped.clone().drop_guard();
    serving.tasks.spawn(async move {
        connections.accept(listener).await;
        drop(stopped);
    });
    serving
}

impl Serving {
    /// Runs something beside the server, until that is closed.
    pub(super) fn beside(&self, running: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            closing.run_until_cancelled(running).await;
        });
    }

    /// Waits until the server accepts no connections any more, also because of a defect.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopped.clone().cancelled_owned()
    }

    /// Accepts no more connections and waits up to `limit` for the requests in flight, then closes the other connections. Joins
    /// all tasks.
    pub async fn close(self, limit: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            warn!(connections = self.tasks.len(), "connections cut off at the end of the drain");
            self.killed.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Runs HTTP/2 streams as tasks, which the server joins.
#[derive(Debug, Clone)]
struct Tracked(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tracked {
    fn execute(&self, stream: F) {
        self.0.spawn(unless_untaken(stream));
    }
}

fn builder<R: Respond>(ingress: &R, tasks: TaskTracker) -> Builder<Tracked> {
    let limits = ingress.limits();
    let mut builder = Builder::new(Tracked(tasks));
    let head_bytes = limits.head_bytes.max(LEAST_HEAD_BYTES);
    // `Paced` limits the time of heads.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(head_bytes);
    builder.http2().timer(TokioTimer::new());
    http2::set(builder.http2(), limits, head_bytes);
    builder
}

/// Makes the TLS handshake of a connection, in the time of a head, where TLS is set. `None`: it failed.
async fn secure<Io>(server: &impl Respond, io: Io, client: &mut Identity) -> Option<Channel<Io>>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let Some(tls) = server.tls() else { return Some(Channel::Clear(io)) };
    let (io, name) = tls.accept(io, server.limits().head_time).await?;
    client.tls_client = name;
    Some(io)
}

struct Connections<R> {
    builder: Builder<Tracked>,
    ingress: R,
    tasks: TaskTracker,
    closing: CancellationToken,
    killed: CancellationToken,
}

impl<R: Respond> Connections<R> {
    async fn accept<L: Listener>(self, mut listener: L) {
        let limits = self.ingress.limits();
        let places = Places::new(limits.connections, limits.peer_connections);
        let mut spare = Spare::new();
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((_, peer)) if !places.admits(peer) => refused("peer"),
                    Ok((io, peer)) => self.connect(io, peer, (&places, places.free().await)),
                    Err(error) if Spare::is_needed(&error) => {
                        if spare.refuse(&mut listener, ACCEPT_PAUSE).await {
                            refused("descriptors");
                        } else {
                            warn!(%error, "connection not accepted");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                    Err(error) => {
                        warn!(%error, "connection not accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        self.closing.run_until_cancelled(accepting).await;
    }

    fn connect<Io>(&self, io: Io, peer: Peer, (places, free): (&Places, OwnedSemaphorePermit))
    where
        Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.ingress.limits();
        let pace =
            Pace { idle: limits.idle_time, head: limits.head_time, write: limits.write_time };
        let progress = Arc::<Progress>::default();
        let watch = Watch::new(Arc::clone(&progress), pace);
        let (builder, ingress, tasks) =
            (self.builder.clone(), self.ingress.clone(), self.tasks.clone());
        // Each connection has its own child tokens: it polls them often, and shared tokens would share one lock.
        let (closing, killed) = (self.closing.child_token(), self.killed.child_token());
        let taken = places.take(free, peer, (Arc::clone(&progress), closing.clone()));
        self.tasks.spawn(async move {
            let open = gauge!(CONNECTIONS);
            open.increment(1);
            let mut client = identity::of(peer);
            let secured = secure(&ingress, io, &mut client);
            let Some(Some(io)) = closing.run_until_cancelled(secured).await else {
                open.decrement(1);
                return;
            };
            let io = TokioIo::new(Paced::new(io, Arc::clone(&progress)));
            let service = service_fn(move |request: Request<Incoming>| {
                let (ingress, in_flight) = (ingress.clone(), progress.begin());
                let at = At {
                    tasks: tasks.clone(),
                    progress: Arc::clone(&progress),
                    write_time: pace.write,
                    in_flight,
                };
                let client = client.clone();
                async move {
                    let answered = ingress.respond(request, client, at).await;
                    Ok::<_, std::convert::Infallible>(answered)
                }
            });
            let connection = builder.serve_connection(io, service);
            tokio::pin!(connection, watch);
            let mut ended = tokio::select! {
                biased;
                ended = connection.as_mut() => End::Done(ended.err()),
                why = watch.as_mut() => End::TooSlow(why),
                () = cancelled(&closing) => End::Asked,
            };
            if let End::Asked | End::TooSlow(TooSlow::Idle) = ended {
                connection.as_mut().graceful_shutdown();
                watch.end_within(LAST);
                let finished = tokio::select! {
                    biased;
                    ended = connection => End::Done(ended.err()),
                    why = watch => End::TooSlow(why),
                    () = cancelled(&killed) => End::Asked,
                };
                if let End::Asked = ended {
                    ended = finished;
                }
            }
            match ended {
                End::Done(Some(error)) => debug!(%peer, error, "connection ended early"),
                End::TooSlow(why) => {
                    debug!(%peer, ?why, "the peer is too slow");
                    counter!(CONNECTIONS_CLOSED_TOTAL, "reason" => why.label()).increment(1);
                }
                End::Done(None) | End::Asked => {}
            }
            open.decrement(1);
            drop(taken);
        });
    }
}

/// See [`At::take_rest`].
async fn linger<B>(mut body: B, limit: usize, _in_flight: InFlight)
where
    B: Body<Data = Bytes> + Unpin,
{
    discard(&mut body, limit, LAST).await;
}

/// Counts a connection that is closed as soon as it was accepted.
fn refused(reason: &'static str) {
    counter!(CONNECTIONS_REFUSED_TOTAL, "reason" => reason).increment(1);
}

/// How a connection ends.
enum End {
    /// By itself or its peer, with or without an error.
    Done(Option<Box<dyn std::error::Error + Send + Sync>>),
    TooSlow(TooSlow),
    /// It was asked to.
    Asked,
}
