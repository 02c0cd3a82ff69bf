//! What one HTTP/2 client may cost.

#![allow(clippy::unwrap_used, reason = "it is test code")]

mod raw;

use std::io::Write;
use std::net::TcpStream;

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
