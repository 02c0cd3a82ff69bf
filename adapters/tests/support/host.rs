//! A scriptable actor host on a bare socket: the test decides every byte that is sent.
//!
//! It reads as Node does, 64 KiB at a time, because the Node SDK takes every chunk of a body for a whole
//! message: [`Call::pieces`] counts the reads in which the body arrived. An HTTP library would hide that,
//! and could not respond in the odd framings of the SDKs' servers.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How much one read takes at most: what libuv hands to Node.
const READ_BYTES: usize = 64 * 1024;
/// How long a started request may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case, in order of arrival.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// In how many reads the body arrived; 0 when it is empty.
    pub(crate) pieces: usize,
}

impl Call {
    /// The first header of this (lower-case) name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// How the end of an answer's body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By `Content-Length`; one write.
    Length,
    /// By chunks of at most this many bytes, each in a write of its own.
    Chunks(usize),
    /// By the end of the connection, without any header that says so.
    Close,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Without `Content-Length` and `Transfer-Encoding`: those follow from the framing.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
}

impl Answer {
    /// The ordinary answer: 200, protobuf.
    pub(crate) fn message(message: &impl prost::Message) -> Self {
        let headers = vec![("Content-Type".into(), "application/octet-stream".into())];
        let body = message.encode_to_vec().into();
        Self { status: 200, headers, body, framing: Framing::Length }
    }

    fn closes(&self) -> bool {
        self.framing == Framing::Close
            || self.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
            })
    }
}

/// What a host does with a call.
pub(crate) trait Script: Send + Sync + 'static {
    /// Answers one call. `None` closes the connection without an answer.
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>>;
}

/// A host that holds its port and refuses connections until it [listens](Self::listen).
#[derive(Debug)]
pub(crate) struct BoundHost {
    socket: TcpSocket,
    address: SocketAddr,
}

impl BoundHost {
    /// Takes a port that the system chooses.
    pub(crate) fn bind() -> Self {
        Self::bind_to(0)
    }

    /// Takes a port, 0 for any. One whose host was [stopped](Host::stop) can be taken again.
    pub(crate) fn bind_to(port: u16) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("a free port");
        let address = socket.local_addr().expect("bound");
        Self { socket, address }
    }

    /// Its port, as a setting's value.
    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Accepts connections from now on.
    pub(crate) fn listen(self, script: Arc<impl Script>) -> Host {
        Host::serve(self.socket.listen(1024).expect("a bound socket listens"), script)
    }
}

/// A running host; dropping it closes its port and its connections.
#[derive(Debug)]
pub(crate) struct Host {
    address: SocketAddr,
    task: JoinSet<()>,
    connections: Connections,
}

/// A task for each connection.
type Connections = Arc<Mutex<JoinSet<()>>>;

impl Host {
    /// Binds and listens at once.
    pub(crate) fn start(script: Arc<impl Script>) -> Self {
        BoundHost::bind().listen(script)
    }

    /// Listens on a port, 0 for any. One that was [stopped](Self::stop) before can be taken again.
    pub(crate) async fn start_on(port: u16, script: Arc<impl Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        Self::serve(listener, script)
    }

    /// Serves what arrives here.
    pub(crate) fn serve(listener: TcpListener, script: Arc<impl Script>) -> Self {
        let address = listener.local_addr().expect("bound");
        let (mut task, connections) = (JoinSet::new(), Connections::default());
        task.spawn(accept(listener, script, connections.clone()));
        Host { address, task, connections }
    }

    /// Refuses connections and closes those that it has: when this returns, no call is answered any more. Returns its port.
    pub(crate) async fn stop(mut self) -> u16 {
        self.task.shutdown().await;
        let mut connections = std::mem::take(&mut *self.connections.lock());
        connections.shutdown().await;
        self.address.port()
    }

    /// Its port, as a setting's value.
    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }
}

async fn accept(listener: TcpListener, script: Arc<impl Script>, connections: Connections) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let mut connections = connections.lock();
        while connections.try_join_next().is_some() {}
        let script = Arc::clone(&script);
        // A connection that breaks is the proxy's to report; a call that breaks is the script's.
        connections.spawn(async move { drop(serve(stream, script).await) });
    }
}

async fn serve(mut stream: TcpStream, script: Arc<impl Script>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    while let Some(call) = read_call(&mut stream, &mut buffer).await? {
        assert!(buffer.is_empty(), "the proxy sent a request before the last was answered");
        let Some(answer) = Arc::clone(&script).answer(call).await else { return Ok(()) };
        write_answer(&mut stream, &answer).await?;
        if answer.closes() {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

/// Reads one request, what has arrived of it before included; `None` when the connection ended before it began.
pub(crate) async fn read_call(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> std::io::Result<Option<Call>> {
    buffer.reserve(READ_BYTES);
    if buffer.is_empty() && stream.read_buf(buffer).await? == 0 {
        return Ok(None);
    }
    let whole = timeout(REQUEST_LIMIT, async {
        let head_end = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            buffer.reserve(READ_BYTES);
            assert_ne!(stream.read_buf(buffer).await?, 0, "the proxy broke off inside a head");
        };
        let head = buffer.split_to(head_end + 4);
        let mut call = parse_head(std::str::from_utf8(&head).expect("a readable head"));
        let length = call.header("content-length").expect("Content-Length is announced");
        let length: usize = length.parse().expect("a number");
        call.pieces = usize::from(!buffer.is_empty());
        while buffer.len() < length {
            buffer.reserve(READ_BYTES);
            assert_ne!(stream.read_buf(buffer).await?, 0, "the proxy broke off inside a body");
            call.pieces += 1;
        }
        call.body = buffer.split_to(length).freeze();
        Ok(Some(call))
    });
    whole.await.expect("a started request arrives whole")
}

fn parse_head(head: &str) -> Call {
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().expect("a request line").split(' ');
    let method = first.next().expect("a method").to_owned();
    let path = first.next().expect("a path").to_owned();
    assert_eq!(first.next(), Some("HTTP/1.1"));
    let header = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers = lines.map(header).collect();
    Call { method, path, headers, body: Bytes::new(), pieces: 0 }
}

async fn write_answer(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Recorded\r\n", answer.status);
    for (name, value) in &answer.headers {
        write!(head, "{name}: {value}\r\n").expect("a string takes everything");
    }
    match answer.framing {
        Framing::Length => {
            write!(head, "Content-Length: {}\r\n", answer.body.len()).expect("as above");
        }
        Framing::Chunks(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => {}
    }
    head.push_str("\r\n");
    let mut out = head.into_bytes();
    if let Framing::Chunks(size) = answer.framing {
        stream.write_all(&out).await?;
        for chunk in answer.body.chunks(size) {
            let mut out = format!("{:x}\r\n", chunk.len()).into_bytes();
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
            stream.write_all(&out).await?;
        }
        stream.write_all(b"0\r\n\r\n").await
    } else {
        out.extend_from_slice(&answer.body);
        stream.write_all(&out).await
    }
}
