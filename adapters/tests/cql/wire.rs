//! A wire between a store and its server that can keep requests back, chosen by their bytes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::server;

/// What precedes the body of a request: version, flags, stream, kind, length.
const HEAD_BYTES: usize = 9;
/// How long a request that is to be kept back may take to come.
const LIMIT: Duration = Duration::from_mins(1);

/// The kind of a request with one statement.
pub(crate) const EXECUTE: u8 = 0x0a;
/// The kind of one with several that are one write.
pub(crate) const BATCH: u8 = 0x0d;
/// No kind: an [`EXECUTE`] with a timestamp, so one that writes.
pub(crate) const WRITE: u8 = 0xff;
const QUERY: u8 = 0x07;
/// In the flags of a request: a timestamp of the client's comes with it.
const HAS_TIMESTAMP: u8 = 0x20;

type ToServer = Arc<AsyncMutex<OwnedWriteHalf>>;

#[derive(Default)]
struct Held {
    /// Requests that have one of these texts are kept back.
    marks: Vec<(u8, String)>,
    requests: Vec<(ToServer, Vec<u8>)>,
    /// Prepared and changing requests that still pass.
    left: Option<usize>,
}

impl Held {
    /// Whether a request is kept back.
    fn takes(&mut self, request: &[u8]) -> bool {
        let kind = request[4];
        let has = |text: &str| request.windows(text.len()).any(|part| part == text.as_bytes());
        if let Some(left) = &mut self.left {
            let is_read = kind == QUERY && request[HEAD_BYTES..].get(4..10) == Some(b"SELECT");
            if matches!(kind, QUERY | EXECUTE | BATCH) && !is_read {
                match left.checked_sub(1) {
                    Some(fewer) => *left = fewer,
                    None => return true,
                }
            }
        }
        let is_write = kind == EXECUTE && is_stamped(request);
        self.marks.iter().any(|(of, text)| (kind == *of || (is_write && *of == WRITE)) && has(text))
    }
}

/// Whether a request with one prepared statement carries a timestamp: its flags follow the statement's id and the consistency.
fn is_stamped(request: &[u8]) -> bool {
    let id_bytes = usize::from(u16::from_be_bytes([request[HEAD_BYTES], request[HEAD_BYTES + 1]]));
    request.get(HEAD_BYTES + 2 + id_bytes + 2).is_some_and(|flags| flags & HAS_TIMESTAMP != 0)
}

/// The wire; cut when it is dropped.
pub(crate) struct Wire {
    pub(crate) address: String,
    held: Arc<Mutex<Held>>,
    _wires: JoinSet<()>,
}

impl Wire {
    /// To the server of the tests.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let held: Arc<Mutex<Held>> = Arc::default();
        let mut wires = JoinSet::new();
        wires.spawn(accept(listener, held.clone()));
        Self { address, held, _wires: wires }
    }

    /// Keeps back requests of a kind that have this text, from now on.
    pub(crate) fn hold(&self, kind: u8, text: &str) {
        self.held.lock().marks.push((kind, text.to_owned()));
    }

    /// Lets so many prepared or changing requests pass, and keeps back all that come then.
    pub(crate) fn cut_after(&self, count: usize) {
        self.held.lock().left = Some(count);
    }

    /// Waits until so many requests are kept back.
    pub(crate) async fn holds(&self, count: usize) {
        let held = async {
            while self.held.lock().requests.len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, held).await.expect("the requests come");
    }

    /// Sends what was kept back, and keeps nothing back any more.
    pub(crate) async fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        for (server, request) in held.requests {
            // Its connection may be gone.
            server.lock().await.write_all(&request).await.unwrap_or_default();
        }
    }
}

async fn accept(listener: TcpListener, held: Arc<Mutex<Held>>) {
    let mut wires = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(server::address()).await else { continue };
        let ((requests, mut answers), (mut from, to)) = (client.into_split(), server.into_split());
        wires.spawn(async move { drop(copy(&mut from, &mut answers).await) });
        let (to, held) = (Arc::new(AsyncMutex::new(to)), held.clone());
        wires.spawn(async move { drop(forward(requests, to, held).await) });
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    to: ToServer,
    held: Arc<Mutex<Held>>,
) -> std::io::Result<()> {
    loop {
        let mut request = vec![0; HEAD_BYTES];
        from.read_exact(&mut request).await?;
        let length = u32::from_be_bytes([request[5], request[6], request[7], request[8]]);
        request.resize(HEAD_BYTES + length as usize, 0);
        from.read_exact(&mut request[HEAD_BYTES..]).await?;
        let is_held = {
            let mut held = held.lock();
            let is_held = held.takes(&request);
            if is_held {
                held.requests.push((to.clone(), request.clone()));
            }
            is_held
        };
        if !is_held {
            to.lock().await.write_all(&request).await?;
        }
    }
}
