//! Clients that ask for an answer and never read it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How a client does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP/1.1: its socket takes what its buffer takes.
    Http1,
    /// HTTP/2: its window is closed.
    Http2,
}

/// The least buffer that the operating system gives.
const RECEIVE_BYTES: u32 = 2_048;
const CONNECT: Duration = Duration::from_secs(30);

/// Sends one GET. The connection is to be kept, and not to be read from.
pub(crate) async fn ask(kind: Kind, address: &str, path: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    let connected = timeout(CONNECT, socket.connect(address.parse().unwrap())).await;
    let mut stream = connected.map_err(|_| std::io::ErrorKind::TimedOut)??;
    let request = match kind {
        Kind::Http1 => http1(path),
        Kind::Http2 => http2(path),
    };
    stream.write_all(&request).await?;
    Ok(stream)
}

fn http1(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/octet-stream\r\n\r\n")
        .into_bytes()
}

/// The preface, settings with a window of 0 for every stream, and one request.
fn http2(path: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    // Indexed: `:method GET`, `:scheme http`. Literal, with an indexed name: `:path`, `:authority`, `accept`.
    let mut head = vec![0x82, 0x86];
    for (index, value) in [(&[0x04][..], path), (&[0x01], "localhost"), (&[0x0f, 0x04], OCTETS)] {
        head.extend(index);
        head.push(u8::try_from(value.len()).unwrap());
        head.extend(value.as_bytes());
    }
    bytes.extend(frame(1, 0x5, 1, &head));
    bytes
}

const OCTETS: &str = "application/octet-stream";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
    frame.extend(payload);
    frame
}
