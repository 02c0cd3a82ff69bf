//! The client against hosts that behave, misbehave and die, over in-memory connections.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_stages::actor::ActorId;
use tidegate_stages::invocation::Payload;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tower::ServiceExt;

use super::*;

/// Hands out prepared connections; refuses when there are none left.
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
    }
}

fn invocation() -> ActorInvocation {
    ActorInvocation {
        host: HostAddress::new("127.0.0.1:8090"),
        actor: Arc::new(ActorId { name: "joe".into(), system: "s".into(), parent: String::new() }),
        action: "sum".into(),
        state: None,
        tags: [].into(),
        metadata: [].into(),
        caller: None,
        self_has_parent: true,
        payload: Payload::Noop,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
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
            assert!(heard.contains("\r\ntraceparent: 00-0af7"), "{heard}");
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
    let only_names = "\x0a\x01a";
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
