//! The client against hosts that work, send wrong bytes or disconnect, over in-memory connections.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_stages::actor::{ActorId, Encoding};
use tidegate_stages::invocation::{AnswerBound, NoBytes, Payload};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tower::ServiceExt;

use super::*;

mod unasked;

/// Returns the prepared connections in order; refuses when none is left.
#[derive(Clone, Default)]
struct Prepared(Arc<Mutex<VecDeque<DuplexStream>>>);

impl Prepared {
    fn next(&self) -> DuplexStream {
        let (near, far) = duplex(1 << 20);
        self.0.lock().push_back(near);
        far
    }
}

impl Connect for Prepared {
    type Io = DuplexStream;

    async fn connect(&self, _: &HostAddress) -> io::Result<DuplexStream> {
        self.0.lock().pop_front().ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }
}

fn options() -> HostOptions {
    HostOptions {
        connect_time: Duration::from_secs(5),
        max_idle: Duration::from_secs(1),
        connections: 16,
        body_bytes: 1024,
        bodies_bytes: 4096,
    }
}

fn invocation() -> ActorInvocation {
    ActorInvocation {
        encoding: Encoding::Protobuf,
        host: HostAddress::new("127.0.0.1:8090"),
        actor: Arc::new(ActorId { name: "joe".into(), system: "s".into(), parent: String::new() }),
        action: "sum".into(),
        state: None,
        tags: [].into(),
        metadata: [].into(),
        caller: None,
        self_has_parent: true,
        payload: Payload::Noop,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\na=1,b=2".into(),
        answer: None,
    }
}

/// Reads one request, head and body.
async fn hear(host: &mut DuplexStream) -> String {
    let mut heard = vec![0; 64 * 1024];
    let bytes = host.read(&mut heard).await.unwrap();
    heard.truncate(bytes);
    String::from_utf8_lossy(&heard).into_owned()
}

fn answer_body() -> Bytes {
    let response = ActorInvocationResponse { payload: Payload::Noop, ..Default::default() };
    wire::encode_action_response(ActorId::default(), response)
}

fn answer() -> Vec<u8> {
    let body = answer_body();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

async fn call(host: &HttpHost<Prepared>) -> Result<ActorInvocationResponse, HostError> {
    host.clone().oneshot(invocation()).await
}

#[tokio::test(start_paused = true)]
async fn a_call_is_one_post_with_its_length_and_the_connection_is_kept() {
    let connector = Prepared::default();
    let mut far = connector.next();
    let host = HttpHost::new(connector, options());
    let serve = async {
        for _ in 0..3 {
            let heard = hear(&mut far).await;
            assert!(heard.starts_with("POST /api/v1/actors/actions HTTP/1.1\r\n"), "{heard}");
            assert!(heard.contains("\r\nhost: 127.0.0.1:8090\r\n"), "{heard}");
            assert!(heard.contains("\r\ncontent-type: application/octet-stream\r\n"), "{heard}");
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let context = format!("\r\ntraceparent: {parent}\r\ntracestate: a=1,b=2\r\n");
            assert!(heard.contains(&context), "{heard}");
            assert!(heard.contains("\r\ncontent-length: "), "{heard}");
            far.write_all(&answer()).await.unwrap();
        }
    };
    let calls = async {
        for _ in 0..3 {
            assert_eq!(call(&host).await.unwrap().payload, Payload::Noop);
        }
    };
    tokio::join!(serve, calls);
}

#[tokio::test(start_paused = true)]
async fn a_chunked_answer_and_any_status_are_fine() {
    let connector = Prepared::default();
    let mut far = connector.next();
    let host = HttpHost::new(connector, options());
    let serve = async {
        hear(&mut far).await;
        let body = answer_body();
        let (first, rest) = body.split_at(1);
        let head = "HTTP/1.1 500 Whatever\r\ntransfer-encoding: chunked\r\n\r\n";
        far.write_all(head.as_bytes()).await.unwrap();
        for chunk in [first, rest, &[]] {
            far.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
            far.write_all(chunk).await.unwrap();
            far.write_all(b"\r\n").await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(call(&host), serve);
    assert_eq!(answer.unwrap().payload, Payload::Noop);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_response_is_told_in_words() {
    let only_names = "\x0a\x03joe";
    // updated_context {}, workflow { effects {} }
    let bare_effect = "\x1a\x00\x2a\x02\x0a\x00";
    for (answer, words) in [
        ("400 Bad\r\ncontent-length: 0\r\n\r\n".to_owned(), "HTTP 400 with an empty body"),
        (
            "500 No\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>".to_owned(),
            "HTTP 500 with 6 bytes of text/html",
        ),
        (
            format!("200 OK\r\ncontent-length: {}\r\n\r\n{only_names}", only_names.len()),
            "HTTP 200 with no updated_context",
        ),
        (
            format!("200 OK\r\ncontent-length: {}\r\n\r\n{bare_effect}", bare_effect.len()),
            "HTTP 200 with no workflow.effects.request",
        ),
        ("200 OK\r\ncontent-length: 2000\r\n\r\n".to_owned(), "more than 1024 bytes"),
    ] {
        let connector = Prepared::default();
        let mut far = connector.next();
        let host = HttpHost::new(connector, options());
        let serve = async {
            hear(&mut far).await;
            far.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
        };
        let (error, ()) = tokio::join!(call(&host), serve);
        let error = error.unwrap_err();
        assert!(matches!(error, HostError::Garbled { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_the_host_closed_is_replaced_and_the_call_runs_once() {
    let connector = Prepared::default();
    let (mut first, mut second) = (connector.next(), connector.next());
    let host = HttpHost::new(connector, options());
    let (one, ()) = tokio::join!(call(&host), async {
        hear(&mut first).await;
        first.write_all(&answer()).await.unwrap();
    });
    one.unwrap();
    drop(first);
    let (two, ()) = tokio::join!(call(&host), async {
        hear(&mut second).await;
        second.write_all(&answer()).await.unwrap();
    });
    two.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_after_the_call_was_written_is_not_tried_again() {
    let connector = Prepared::default();
    let (mut first, mut spare) = (connector.next(), connector.next());
    let host = HttpHost::new(connector, options());
    let (one, ()) = tokio::join!(call(&host), async {
        hear(&mut first).await;
        first.write_all(&answer()).await.unwrap();
    });
    one.unwrap();
    let (two, ()) = tokio::join!(call(&host), async {
        hear(&mut first).await;
        drop(first);
    });
    let error = two.unwrap_err();
    assert!(matches!(error, HostError::Broken { .. }), "{error:?}");
    assert!(!error.is_unsent());
    let heard = tokio::time::timeout(Duration::from_mins(1), spare.read_u8()).await;
    assert!(heard.is_err(), "the action must not run twice");
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_is_a_broken_call() {
    let connector = Prepared::default();
    let mut far = connector.next();
    let host = HttpHost::new(connector, options());
    let (answer, ()) = tokio::join!(call(&host), async {
        hear(&mut far).await;
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n123").await.unwrap();
        drop(far);
    });
    assert!(matches!(answer.unwrap_err(), HostError::Broken { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_half_way_is_dropped_and_one_that_waits_too_long_is_not_read() {
    let connector = Prepared::default();
    let (mut stops, mut waits) = (connector.next(), connector.next());
    let host = HttpHost::new(connector, HostOptions { bodies_bytes: 0, ..options() });
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    let trickle = async {
        hear(&mut stops).await;
        stops.write_all(head).await.unwrap();
        for _ in 0..12 {
            stops.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let second = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (waited, ()) = tokio::join!(call(&host), async {
            hear(&mut waits).await;
            waits.write_all(head).await.unwrap();
        });
        waited.unwrap_err()
    };
    let (stopped, (), waited) = tokio::join!(call(&host), trickle, second);
    assert!(stopped.unwrap_err().to_string().contains("no byte of its answer came for 2s"));
    assert!(matches!(&waited, HostError::Unread { .. }), "{waited}");
    assert!(waited.to_string().contains("the action ran"), "{waited}");
}

/// Counts answers of at most so many bytes.
#[derive(Debug)]
struct Counts(usize);

impl AnswerBound for Counts {
    fn try_reach(&self, bytes: usize) -> Option<usize> {
        (bytes <= self.0).then_some(0)
    }

    fn reach(self: Arc<Self>, _: usize, _: bool) -> BoxFuture<'static, Result<usize, NoBytes>> {
        Box::pin(async { Err(NoBytes) })
    }

    fn waits(&self, _: bool) {}
}

#[tokio::test(start_paused = true)]
async fn what_the_place_of_a_turn_counts_is_read_whatever_others_read_and_nothing_else_of_it() {
    let connector = Prepared::default();
    let (mut fits, mut announced, mut chunked) =
        (connector.next(), connector.next(), connector.next());
    // Nothing but the reserve is left for answers of which no place counts anything.
    let host = HttpHost::new(connector, HostOptions { bodies_bytes: 0, ..options() });
    let _reader = {
        let mut hold = host.0.reading.enter(None);
        hold.reach(1, true).await.unwrap();
        hold
    };
    let counted = |bytes| {
        let answer = Some(Arc::new(Counts(bytes)) as Arc<dyn AnswerBound>);
        host.clone().oneshot(ActorInvocation { answer, ..invocation() })
    };
    let (answered, ()) = tokio::join!(counted(answer_body().len()), async {
        hear(&mut fits).await;
        fits.write_all(&answer()).await.unwrap();
    });
    answered.unwrap();
    drop(fits);
    // The body never comes: it is not waited for.
    let (unread, ()) = tokio::join!(counted(99), async {
        hear(&mut announced).await;
        announced.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").await.unwrap();
    });
    assert!(matches!(unread, Err(HostError::Unread { .. })), "{unread:?}");
    let (unread, ()) = tokio::join!(counted(5), async {
        hear(&mut chunked).await;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        chunked.write_all(head).await.unwrap();
        chunked.write_all(b"4\r\nabcd\r\n4\r\nefgh\r\n").await.unwrap();
    });
    assert!(matches!(unread, Err(HostError::Unread { .. })), "{unread:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_names_the_address_the_settings_and_the_ports_of_sdks() {
    let host = HttpHost::new(Prepared::default(), options());
    let error = call(&host).await.unwrap_err();
    assert!(error.is_unsent());
    let text = error.to_string();
    for part in ["127.0.0.1:8090", "USER_FUNCTION_PORT", "8091 (Python)", "8093 (Rust)"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_closes_the_connection_is_read_and_the_connection_dropped() {
    let connector = Prepared::default();
    let (mut first, mut second) = (connector.next(), connector.next());
    let host = HttpHost::new(connector, options());
    for far in [&mut first, &mut second] {
        let (answered, ()) = tokio::join!(call(&host), async {
            hear(far).await;
            let body = answer_body();
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            far.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        });
        answered.unwrap();
    }
}

/// A TCP connection that counts its writes.
#[derive(Debug)]
struct Counted(tokio::net::TcpStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[derive(Debug, Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Connect for Counting {
    type Io = Counted;

    async fn connect(&self, address: &HostAddress) -> io::Result<Counted> {
        let stream = tokio::net::TcpStream::connect(address.as_str()).await?;
        Ok(Counted(stream, Arc::clone(&self.0)))
    }
}

/// Node's server treats each chunk of data as a whole message.
#[tokio::test]
async fn a_call_leaves_in_one_write() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HostAddress::new(&listener.local_addr().unwrap().to_string());
    let connector = Counting::default();
    let host = HttpHost::new(connector.clone(), options());
    let serve = async {
        let (mut far, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let (mut heard, mut buffer) = (0, vec![0; 64 * 1024]);
            while heard < 40_000 {
                heard += far.read(&mut buffer).await.unwrap();
            }
            far.write_all(&answer()).await.unwrap();
        }
    };
    let calls = async {
        for _ in 0..2 {
            let value = Bytes::from(vec![7; 40_000]);
            let payload =
                Payload::Value(tidegate_stages::state::Any { type_url: "x".into(), value });
            let called = ActorInvocation { host: address.clone(), payload, ..invocation() };
            host.clone().oneshot(called).await.unwrap();
        }
    };
    tokio::join!(serve, calls);
    assert_eq!(connector.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_host_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("host.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let host = HttpHost::new(SystemConnector::default(), options());
    let serve = async {
        let (mut far, _) = listener.accept().await.unwrap();
        let mut heard = [0; 1024];
        assert!(far.read(&mut heard).await.unwrap() > 0);
        assert!(String::from_utf8_lossy(&heard).contains("host: localhost"));
        far.write_all(&answer()).await.unwrap();
    };
    let address = HostAddress::new(&format!("unix:{}", path.display()));
    let called = ActorInvocation { host: address, ..invocation() };
    let (answered, ()) = tokio::join!(host.oneshot(called), serve);
    answered.unwrap();
}
