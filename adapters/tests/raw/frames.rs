//! HTTP/2 frame by frame, on a blocking socket: what a well-behaved client never sends can be sent, too.

use std::io::{Read, Write};
use std::net::TcpStream;

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// On SETTINGS and PING: it answers one of the other side.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The setting of the window that each stream begins with.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A request without a body.
    pub(crate) fn get(stream: u32, path: &str) -> Self {
        Self::new(HEADERS, END_STREAM | END_HEADERS, stream, head(0x82, path))
    }

    /// The head of a request whose body follows.
    pub(crate) fn post(stream: u32, path: &str) -> Self {
        Self::new(HEADERS, END_HEADERS, stream, head(0x83, path))
    }

    /// Settings, each a number and a value.
    pub(crate) fn settings(settings: &[(u16, u32)]) -> Self {
        let bytes = settings
            .iter()
            .flat_map(|(number, value)| [&number.to_be_bytes()[..], &value.to_be_bytes()].concat());
        Self::new(SETTINGS, 0, 0, bytes.collect::<Vec<_>>())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()].concat();
        [head, self.payload.clone()].concat()
    }
}

/// What ends a connection that costs too much, in a frame GOAWAY.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The reason that a frame GOAWAY gives.
pub(crate) fn reason(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[4..8].try_into().unwrap())
}

/// A head in HPACK: the method as the static table numbers it, and a path.
fn head(method: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    assert!(length < 127, "one byte holds the length");
    [&[method, 0x86, 0x04, length], path.as_bytes(), &[0x01, 0x01, b'x']].concat()
}

/// Connects: sends the preface and these settings.
pub(crate) fn open(stream: &mut TcpStream, settings: &[(u16, u32)]) {
    stream.write_all(&[PREFACE, &Frame::settings(settings).bytes()].concat()).unwrap();
}

/// Reads the next frame. `None`: the connection has ended.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, flags, rest @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(rest) & (u32::MAX >> 1), payload })
}

/// Reads up to a frame of this kind on this stream. `None`: the connection has ended before.
pub(crate) fn read_until(stream: &mut TcpStream, kind: u8, on: u32) -> Option<Frame> {
    loop {
        let frame = read_frame(stream)?;
        if (frame.kind, frame.stream) == (kind, on) {
            return Some(frame);
        }
    }
}
