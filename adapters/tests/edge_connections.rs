//! What connections cost: those that say nothing are closed, and first when places are scarce.

#![allow(clippy::unwrap_used, reason = "it is test code")]

mod raw;

use std::io::Write;
use std::net::TcpStream;
use std::thread::spawn;

use raw::frames::{self, Frame};
use raw::{Proxy, is_closed_in_time, read_response};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// Longer than a test may take: what happens in time happens for another reason.
const NEVER: &str = "10m";

/// Connects and calls in the same moment.
fn called(proxy: &Proxy) -> TcpStream {
    let mut stream = proxy.connect();
    stream.write_all(HEALTH).unwrap();
    assert_eq!(read_response(&mut stream, false).unwrap().status, 200);
    stream
}

fn called_over_http2(proxy: &Proxy) -> TcpStream {
    let mut stream = proxy.connect();
    frames::open(&mut stream, &[]);
    stream.write_all(&Frame::get(1, "/health").bytes()).unwrap();
    let answer = frames::read_until(&mut stream, frames::DATA, 1).expect("an answer");
    assert_eq!(answer.payload, br#"{"status":"up"}"#);
    stream
}

#[test]
fn clients_that_call_once_and_fall_silent_are_closed_after_the_idle_time() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", "500ms"),
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", NEVER),
    ]);
    for call in [called, called_over_http2] {
        let silent: Vec<_> = (0..60).map(|_| call(&proxy)).collect();
        let waits =
            silent.into_iter().map(|mut stream| spawn(move || is_closed_in_time(&mut stream)));
        // All of them wait at once.
        let waits: Vec<_> = waits.collect();
        assert_eq!(
            waits.into_iter().filter_map(|wait| wait.join().unwrap().then_some(())).count(),
            60
        );
    }
}

#[test]
fn the_time_of_a_head_counts_on_every_request() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", "500ms"),
    ]);
    let mut used = called(&proxy);
    used.write_all(b"GET /health HTTP/1.1\r\nhos").unwrap();
    assert!(is_closed_in_time(&mut used), "half a head on a connection that was used before");
}

#[test]
fn half_a_head_over_http2_has_the_time_of_a_head_also_while_another_request_is_in_flight() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_BODY_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", "500ms"),
        ("TIDEGATE_HOST_NAMES", "x"),
    ]);
    let unended = Frame { flags: frames::END_STREAM, ..Frame::get(3, "/health") }.bytes();
    let cut = Frame::get(3, "/health").bytes()[..15].to_vec();
    let upload = Frame::post(1, "/api/v1/system").bytes();
    for before in [&b""[..], &upload] {
        for half in [&unended, &cut] {
            let mut stream = proxy.connect();
            frames::open(&mut stream, &[]);
            stream.write_all(&[before, half].concat()).unwrap();
            assert!(is_closed_in_time(&mut stream), "{half:?} after {before:?}");
        }
    }
}

#[test]
fn half_a_preface_of_http2_has_the_time_of_a_head() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", "500ms"),
    ]);
    for part in [3, frames::PREFACE.len() - 1] {
        let mut stream = proxy.connect();
        stream.write_all(&frames::PREFACE[..part]).unwrap();
        assert!(is_closed_in_time(&mut stream), "after {part} bytes");
    }
}

#[test]
fn when_places_are_scarce_those_idle_longest_are_closed_and_busy_ones_are_not() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_CONNECTIONS", "5"),
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", NEVER),
        ("TIDEGATE_HTTP_BODY_TIMEOUT", NEVER),
    ]);
    let mut busy = proxy.connect();
    let half = "POST /api/v1/system HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nha";
    busy.write_all(half.as_bytes()).unwrap();
    let mut silent: Vec<_> = [called(&proxy), called_over_http2(&proxy), called(&proxy)].into();
    // It never says a word.
    silent.push(proxy.connect());
    let newer: Vec<_> = (0..8).map(|_| called(&proxy)).collect();
    for (number, mut stream) in silent.into_iter().enumerate() {
        assert!(is_closed_in_time(&mut stream), "the silent connection {number}");
    }
    busy.write_all(b"lf").unwrap();
    assert_eq!(read_response(&mut busy, false).unwrap().status, 400, "it was busy, and lives");
    drop(newer);
}

/// Connects from this address of this machine.
fn from(address: &str, proxy: &Proxy) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        socket.connect(proxy.address.parse().unwrap()).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(raw::HANG)).unwrap();
    stream
}

#[test]
fn connections_of_one_address_beyond_their_bound_are_refused_and_counted() {
    let proxy = Proxy::start(&[("TIDEGATE_HTTP_PEER_CONNECTIONS", "3")]);
    let mut kept: Vec<_> = (0..3).map(|_| from("127.0.0.2", &proxy)).collect();
    for stream in &mut kept {
        stream.write_all(HEALTH).unwrap();
        assert_eq!(read_response(stream, false).unwrap().status, 200);
    }
    for _ in 0..2 {
        assert!(is_closed_in_time(&mut from("127.0.0.2", &proxy)), "one too many");
    }
    let metrics = proxy.get("/metrics").text();
    let refused = r#"tidegate_http_connections_refused_total{reason="peer"} 2"#;
    assert!(metrics.contains(refused), "another address is served: {metrics}");
    drop(kept);
    // The proxy learns of it in its own time.
    let until = tokio::time::Instant::now() + raw::HANG;
    let again = || {
        let mut stream = from("127.0.0.2", &proxy);
        stream.write_all(HEALTH).is_ok() && read_response(&mut stream, false).is_ok()
    };
    while !again() {
        assert!(
            tokio::time::Instant::now() < until,
            "the places of those that left are free again"
        );
    }
}
