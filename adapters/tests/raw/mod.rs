//! The built binary and raw bytes on blocking sockets, for black-box tests of the ingress.

#![allow(dead_code, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, clippy::let_underscore_must_use, reason = "it is test code")]

pub(crate) mod frames;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longer than anything that the ingress may take in these tests: reaching it is a hang.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// A proxy that is killed when it is dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: String,
}

/// The binary, without settings of this test's own environment.
pub(crate) fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars() {
        if ["TIDEGATE_", "PROXY_", "SPAWN_", "USER_FUNCTION_", "ACTORS_"]
            .iter()
            .any(|ours| name.starts_with(ours))
        {
            command.env_remove(name);
        }
    }
    command.env("TIDEGATE_HTTP_ADDRESS", "127.0.0.1").env("PROXY_DATABASE_TYPE", "memory");
    command.stderr(Stdio::piped()).stdout(Stdio::piped()).stdin(Stdio::null());
    command
}

impl Proxy {
    /// Starts `tidegate serve` on a port of the system's choice, with these settings.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let mut command = tidegate();
        command.arg("serve").env("PROXY_HTTP_PORT", "0").envs(settings.iter().copied());
        Self::started(command.stderr(Stdio::inherit()).spawn().unwrap())
    }

    /// As [`Self::start`], and speaks to the admin port.
    pub(crate) fn start_at_admin(settings: &[(&str, &str)]) -> Self {
        let mut command = tidegate();
        command.arg("serve").env("PROXY_HTTP_PORT", "0");
        command.env("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0").envs(settings.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut proxy = Self::started(child);
        proxy.address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it has ended without an admin port");
            if let Some((_, address)) = line.split_once("admin port on http://") {
                break address.trim().to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        proxy
    }

    /// Waits until `tidegate serve` listens.
    pub(crate) fn started(mut child: Child) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").expect("the first line");
        let address = address.strip_prefix("http://").unwrap_or(address).to_owned();
        Self { child, address }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream.set_write_timeout(Some(HANG)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, request: &[u8]) -> Response {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        read_response(&mut stream, request.starts_with(b"HEAD")).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The memory that it has now.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads one response with a content-length. `Err` says what came instead.
pub(crate) fn read_response(stream: &mut dyn Read, of_head: bool) -> Result<Response, String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, &mut bytes)?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).map_err(|error| error.to_string())?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
    if status == 100 {
        let rest = bytes.split_off(end);
        return read_response(&mut rest.as_slice().chain(stream), of_head);
    }
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map(|rest| rest.split('\r').next().unwrap().parse::<usize>().unwrap());
    let length =
        if of_head { 0 } else { length.ok_or_else(|| format!("no content-length in {head}"))? };
    while bytes.len() < end + length {
        more(stream, &mut bytes)?;
    }
    Ok(Response { status, head, body: bytes.split_off(end) })
}

fn more(stream: &mut dyn Read, bytes: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) => Err("closed".into()),
        Ok(read) => {
            bytes.extend_from_slice(&buffer[..read]);
            Ok(())
        }
        Err(error) => Err(format!("{:?}", error.kind())),
    }
}

/// Whether the other side closes the connection before [`HANG`]; what comes before does not matter.
pub(crate) fn is_closed_in_time(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
            }
        }
    }
}

/// No more bytes will be sent.
pub(crate) fn half_close(stream: &TcpStream) {
    // The other side may have closed it before.
    let _ = stream.shutdown(Shutdown::Write);
}
