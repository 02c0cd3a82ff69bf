//! Hosts that send unexpected bytes, or responses for another actor.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::*;

fn named(name: &str, system: &str) -> Vec<u8> {
    let id = ActorId { name: name.into(), system: system.into(), parent: String::new() };
    let response = ActorInvocationResponse { payload: Payload::Noop, ..Default::default() };
    with_length(&wire::encode_action_response(id, response))
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_with_more_is_not_taken_and_its_connection_goes() {
    let (length, chunks) = (with_length(&answer_body()), in_chunks(&answer_body()));
    let closing = [&b"HTTP/1.1 200 OK\r\nconnection: close\r\n"[..], &length[17..]].concat();
    for (first, more) in [
        (&length, &length[..]),
        (&length, b"x"),
        (&chunks, &chunks),
        (&chunks, b"\r\n"),
        (&closing, &length),
    ] {
        let connector = Prepared::default();
        let (mut far, mut spare) = (connector.next(), connector.next());
        let host = HttpHost::new(connector, options());
        let (one, ()) = tokio::join!(call(&host), async {
            hear(&mut far).await;
            far.write_all(&[first, more].concat()).await.unwrap();
        });
        let error = one.unwrap_err();
        assert!(matches!(error, HostError::Garbled { .. }), "{error:?}");
        assert!(error.to_string().contains("more than it was asked"), "{error}");
        let (two, ()) = tokio::join!(call(&host), async {
            hear(&mut spare).await;
            spare.write_all(&answer()).await.unwrap();
        });
        two.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "closed, and not asked again");
    }
}

/// The runtime learns of arrived bytes when it next polls the operating system; here it has no time to do so.
#[tokio::test]
async fn a_kept_connection_on_which_bytes_have_arrived_unseen_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = HostAddress::new(&listener.local_addr().unwrap().to_string());
    let (go_on, going_on) = std::sync::mpsc::channel();
    let (done, is_done) = std::sync::mpsc::channel();
    let other = ActorInvocationResponse { checkpoint: true, ..Default::default() };
    let other = with_length(&wire::encode_action_response(ActorId::default(), other));
    let host = thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let mut heard = [0; 1024];
        assert!(first.read(&mut heard).unwrap() > 0);
        first.write_all(&answer()).unwrap();
        going_on.recv().unwrap();
        first.write_all(&answer()).unwrap();
        done.send(()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        assert!(second.read(&mut heard).unwrap() > 0);
        second.write_all(&other).unwrap();
        match first.read(&mut heard) {
            Ok(bytes) => bytes,
            // The close with unread bytes resets the connection.
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                0
            }
        }
    });
    let client = HttpHost::new(SystemConnector::default(), options());
    let called = || ActorInvocation { host: address.clone(), ..invocation() };
    client.clone().oneshot(called()).await.unwrap();
    go_on.send(()).unwrap();
    is_done.recv().unwrap();
    let second = client.clone().oneshot(called()).await.unwrap();
    assert!(second.checkpoint, "its own answer");
    drop(client);
    assert_eq!(host.join().unwrap(), 0, "nothing was asked of it any more");
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_another_actor_is_refused_and_its_connection_goes() {
    for (name, system, is_taken) in [
        ("joe", "s", true),
        // An empty name names no other actor.
        ("", "", true),
        ("joe", "", true),
        ("jim", "s", false),
        ("joe", "t", false),
        ("jim", "", false),
    ] {
        let connector = Prepared::default();
        let (mut far, _spare) = (connector.next(), connector.next());
        let host = HttpHost::new(connector, options());
        let (answered, ()) = tokio::join!(call(&host), async {
            hear(&mut far).await;
            far.write_all(&named(name, system)).await.unwrap();
        });
        if is_taken {
            answered.unwrap();
            continue;
        }
        let error = answered.unwrap_err();
        assert!(matches!(error, HostError::Garbled { .. }), "{error:?}");
        assert!(error.to_string().contains("another actor"), "{error}");
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_json_for_another_actor_is_refused_and_its_connection_goes() {
    for (answer, is_taken) in [
        (r#"{"self":{"name":"joe","system":"s","parent":"p"},"state":1}"#, true),
        (r#"{"self":{"name":"joe"},"state":1}"#, true),
        (r#"{"self":null,"state":1}"#, true),
        (r#"{"state":1}"#, true),
        (r#"{"self":{"name":"jim","system":"s","parent":"p"},"state":1}"#, false),
        (r#"{"self":{"name":"joe","system":"t"},"state":1}"#, false),
    ] {
        let connector = Prepared::default();
        let (mut far, _spare) = (connector.next(), connector.next());
        let host = HttpHost::new(connector, options());
        let asked = ActorInvocation { encoding: Encoding::Json, ..invocation() };
        let (answered, ()) = tokio::join!(host.clone().oneshot(asked), async {
            hear(&mut far).await;
            far.write_all(&with_length(answer.as_bytes())).await.unwrap();
        });
        if is_taken {
            assert!(answered.unwrap().state.is_some());
            continue;
        }
        let error = answered.unwrap_err();
        assert!(matches!(error, HostError::Garbled { .. }), "{error:?}");
        assert!(error.to_string().contains("self is another one's"), "{error}");
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
    }
}
