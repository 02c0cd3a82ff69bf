//! What connections cost: those that say nothing are closed, and first when places are scarce.

#![allow(clippy::unwrap_used, reason = "it is test code")]

mod raw;

use std::io::Write;
use std::net::TcpStream;
use std::thread::spawn;

use raw::frames::{self, Frame};
use raw::{Proxy, is_closed_in_time, read_response};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
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
    let half = "POST /api/v1/system HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nha";
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
