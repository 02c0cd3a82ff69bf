//! What one HTTP/2 client may cost.

#![allow(clippy::unwrap_used, reason = "it is test code")]

mod raw;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use raw::Proxy;
use raw::frames::{self, Frame};

/// Longer than a test may take: what happens in time happens for another reason.
const NEVER: &str = "10m";

/// Gets an answer on a new stream, which gets the window for it.
fn is_served(stream: &mut TcpStream, number: u32) -> bool {
    let window = Frame::new(frames::WINDOW_UPDATE, 0, number, 1_000_u32.to_be_bytes());
    stream.write_all(&[Frame::get(number, "/health").bytes(), window.bytes()].concat()).unwrap();
    frames::read_until(stream, frames::DATA, number).is_some()
}

#[test]
fn an_answer_that_its_client_does_not_take_is_reset_and_its_connection_serves_on() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_WRITE_TIMEOUT", "500ms"),
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", NEVER),
    ]);
    for window in [0, 1] {
        let mut stream = proxy.connect();
        frames::open(&mut stream, &[(frames::INITIAL_WINDOW_SIZE, window)]);
        stream.write_all(&Frame::get(1, "/health").bytes()).unwrap();
        let reset = frames::read_until(&mut stream, frames::RST_STREAM, 1);
        assert!(reset.is_some(), "a window of {window}: the connection has ended");
        assert!(is_served(&mut stream, 3), "a window of {window}");
    }
}

#[test]
fn at_the_admin_port_too_and_its_connections_can_be_had_again() {
    let proxy = Proxy::start_at_admin(&[
        ("TIDEGATE_HTTP_WRITE_TIMEOUT", "500ms"),
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", "2s"),
        ("TIDEGATE_HOST_NAMES", "x"),
    ]);
    let kinds = ["/openapi.json", "/admin/flow/live"].map(|path| [(path, 0), (path, 1)]).concat();
    let mut clients: Vec<_> = (0..64).map(|_| proxy.connect()).collect();
    for (stream, (path, window)) in clients.iter_mut().zip(kinds.iter().cycle()) {
        frames::open(stream, &[(frames::INITIAL_WINDOW_SIZE, *window)]);
        stream.write_all(&Frame::get(1, path).bytes()).unwrap();
    }
    for (stream, (path, window)) in clients.iter_mut().zip(kinds.iter().cycle()) {
        let reset = frames::read_until(stream, frames::RST_STREAM, 1);
        assert!(reset.is_some(), "{path}, a window of {window}: it was not reset");
        assert!(raw::is_closed_in_time(stream), "{path}, a window of {window}: it is idle");
    }
    assert_eq!(proxy.get("/health").status, 200);
}

#[test]
fn a_stream_of_events_that_are_taken_goes_on_for_longer_than_one_may_wait() {
    let proxy = Proxy::start_at_admin(&[
        ("TIDEGATE_HTTP_WRITE_TIMEOUT", "500ms"),
        ("TIDEGATE_HOST_NAMES", "x"),
    ]);
    let mut stream = proxy.connect();
    frames::open(&mut stream, &[]);
    stream.write_all(&Frame::get(1, "/admin/flow/live").bytes()).unwrap();
    for _ in 0..3 {
        let event = frames::read_until(&mut stream, frames::DATA, 1).expect("an event");
        assert!(event.payload.starts_with(b"event: flow"));
    }
}

/// What a flood may cost the proxy in memory; ten times what its buffers sum to, and far less than the floods send.
const FLAT_KIB: u64 = 48 * 1024;
/// Bytes of a flood.
const FLOOD_BYTES: usize = 192 << 20;

/// Sends frames as fast as the proxy takes them, made from their number, until all were sent or it takes no more. Meanwhile and
/// afterwards its memory stays flat, and others are served. Returns the connection and how many bytes were sent.
fn flood(
    proxy: &Proxy,
    settings: &[(u16, u32)],
    frame: impl Fn(u32) -> Vec<u8>,
) -> (TcpStream, usize) {
    assert_eq!(proxy.get("/health").status, 200);
    let before = proxy.resident_kib();
    let mut stream = proxy.connect();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    frames::open(&mut stream, settings);
    let (mut sent, mut number) = (0, 0);
    while sent < FLOOD_BYTES {
        let mut part = Vec::with_capacity(1 << 20);
        while part.len() < 1 << 20 {
            part.extend(frame(number));
            number += 1;
        }
        if stream.write_all(&part).is_err() {
            break;
        }
        sent += part.len();
        assert_eq!(proxy.get("/health").status, 200, "others are served");
    }
    let grown = proxy.resident_kib().saturating_sub(before);
    eprintln!("{} MiB, {number} frames sent or begun: {grown} KiB more memory", sent >> 20);
    assert!(grown < FLAT_KIB, "{grown} KiB more memory");
    assert_eq!(proxy.get("/health").status, 200, "others are served");
    (stream, sent)
}

/// Whether a flood was cut off, and for that reason if the connection still says so.
fn is_calmed((mut stream, sent): (TcpStream, usize)) -> bool {
    let goaway = frames::read_until(&mut stream, frames::GOAWAY, 0);
    let told = goaway.is_none_or(|goaway| frames::reason(&goaway) == frames::ENHANCE_YOUR_CALM);
    told && sent < FLOOD_BYTES
}

fn stream_id(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn a_client_that_opens_and_resets_streams_is_cut_off() {
    let proxy = Proxy::start(&[]);
    let cancel = 8_u32.to_be_bytes();
    let flooded = flood(&proxy, &[], |number| {
        let reset = Frame::new(frames::RST_STREAM, 0, stream_id(number), cancel);
        [Frame::get(stream_id(number), "/health").bytes(), reset.bytes()].concat()
    });
    assert!(is_calmed(flooded));
}

#[test]
fn a_client_that_makes_mistakes_on_ever_new_streams_is_cut_off() {
    let proxy = Proxy::start(&[]);
    let window = (u32::MAX >> 1).to_be_bytes();
    let flooded = flood(&proxy, &[(frames::INITIAL_WINDOW_SIZE, 0)], |number| {
        let window = Frame::new(frames::WINDOW_UPDATE, 0, stream_id(number), window).bytes();
        // The second one makes the window larger than may be.
        [Frame::post(stream_id(number), "/health").bytes(), window.clone(), window].concat()
    });
    assert!(is_calmed(flooded));
}

#[test]
fn a_head_that_goes_on_and_on_is_cut_off() {
    let proxy = Proxy::start(&[]);
    // A header of one letter and no value, that is not indexed.
    let more = [0, 1, b'a', 0].repeat(1_000);
    let flooded = flood(&proxy, &[], |number| match number {
        0 => Frame::new(frames::HEADERS, frames::END_STREAM, 1, [0x82, 0x86]).bytes(),
        _ => Frame::new(frames::CONTINUATION, 0, 1, more.clone()).bytes(),
    });
    assert!(is_calmed(flooded));
}

#[test]
fn a_head_above_its_bound_is_refused_and_one_far_above_it_ends_the_connection() {
    let proxy = Proxy::start(&[("TIDEGATE_HTTP_HEAD_BYTES", "8 KiB")]);
    let mut stream = proxy.connect();
    frames::open(&mut stream, &[]);
    // Each header counts with 32 bytes besides its name and value.
    let above = |number, headers| {
        let mut head = Frame::get(number, "/health");
        head.payload.extend([0, 1, b'a', 0].repeat(headers));
        head.bytes()
    };
    stream.write_all(&above(1, 300)).unwrap();
    let answer = frames::read_until(&mut stream, frames::HEADERS, 1).expect("an answer");
    assert!(answer.flags & frames::END_STREAM > 0, "431, without a body: {answer:?}");
    assert!(is_served(&mut stream, 3));
    stream.write_all(&above(5, 1_000)).unwrap();
    assert!(is_calmed((stream, 0)));
}

#[test]
fn control_frames_whose_answers_nobody_takes_are_not_read_and_their_connection_ends() {
    for frame in [
        Frame::new(frames::PING, 0, 0, [7; 8]).bytes(),
        Frame::settings(&[(frames::INITIAL_WINDOW_SIZE, 1 << 16)]).bytes(),
    ] {
        let proxy = Proxy::start(&[("TIDEGATE_HTTP_WRITE_TIMEOUT", "1s")]);
        let (mut stream, sent) = flood(&proxy, &[], |_| frame.clone());
        assert!(sent < FLOOD_BYTES, "all of it was read");
        assert!(raw::is_closed_in_time(&mut stream));
    }
}

#[test]
fn empty_parts_of_a_body_cost_nothing() {
    let proxy = Proxy::start(&[("TIDEGATE_HTTP_BODY_TIMEOUT", "3s")]);
    flood(&proxy, &[], |number| match number {
        0 => Frame::post(1, "/api/v1/system").bytes(),
        _ => Frame::new(frames::DATA, 0, 1, []).bytes(),
    });
}

#[test]
fn answers_that_wait_for_windows_of_one_byte_are_reset_and_cost_what_answers_may() {
    let proxy = Proxy::start(&[
        ("TIDEGATE_HTTP_WRITE_TIMEOUT", "1s"),
        ("TIDEGATE_HTTP_ANSWERS_BYTES", "1 MiB"),
    ]);
    let before = proxy.resident_kib();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    for stream in &mut clients {
        frames::open(stream, &[(frames::INITIAL_WINDOW_SIZE, 1)]);
        let asking: Vec<_> =
            (0..100).map(|number| Frame::get(stream_id(number), "/metrics").bytes()).collect();
        stream.write_all(&asking.concat()).unwrap();
    }
    assert_eq!(proxy.get("/health").status, 200, "others are served");
    for stream in &mut clients {
        assert!(
            frames::read_until(stream, frames::RST_STREAM, stream_id(99)).is_some(),
            "it was reset"
        );
    }
    let grown = proxy.resident_kib().saturating_sub(before);
    eprintln!("2,000 streams with windows of one byte: {grown} KiB more memory");
    assert!(grown < FLAT_KIB, "{grown} KiB more memory");
}
