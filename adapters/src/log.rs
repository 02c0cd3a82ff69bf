//! Log: how a line gets to stderr, on a thread of its own.
//!
//! Whoever logs never waits and never fails. The line goes into a queue of bounded size, and one thread
//! writes what is in the queue. A line for which there is no free place, or that cannot be written, is dropped and
//! counted. When stderr takes lines again, one more line says how many were dropped.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::{Metadata, error};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be written at most, the line that is being written included.
pub(crate) const QUEUE_BYTES: usize = 1 << 20;
/// What a line in the queue takes besides its bytes, about.
const LINE_BYTES: usize = 64;
/// How long an end of the process waits until what was logged is written.
const FLUSH: Duration = Duration::from_secs(1);

/// There is one stderr, hence one queue.
static QUEUE: Queue =
    Queue { state: Mutex::new(State::new()), filled: Condvar::new(), written: Condvar::new() };

struct Queue {
    state: Mutex<State>,
    /// A line has come.
    filled: Condvar,
    /// Nothing waits any more.
    written: Condvar,
}

struct State {
    is_started: bool,
    lines: VecDeque<Line>,
    /// Of all lines in `lines` and of the one that is being written.
    bytes: usize,
    dropped: u64,
}

struct Line {
    kind: Kind,
    text: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Dropped when there is no free place.
    Logged,
    /// Says how many lines were dropped; at most one of them waits, and there is always a place for it.
    Notice,
    /// The last of a process; there is always a place for it.
    Last,
}

/// Puts lines into the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogWriter;

/// Puts one line into the queue.
#[derive(Debug)]
pub(crate) struct LineWriter(Kind);

/// Waits for the log, but not long, when it is dropped.
#[derive(Debug)]
pub(crate) struct FlushOnDrop;

/// Starts the thread that writes, unless it runs.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn start() -> io::Result<LogWriter> {
    let mut state = QUEUE.state.lock();
    if !state.is_started {
        // Never joined: it may hang in a write for as long as nobody reads.
        thread::Builder::new().name("log".into()).spawn(write_lines)?;
        state.is_started = true;
    }
    Ok(LogWriter)
}

/// Writes a line to stderr, behind what was logged; nothing is left to do when that is closed.
pub(crate) fn say(text: &str) {
    let line = format!("{text}\n").into_bytes();
    if QUEUE.state.lock().is_started {
        QUEUE.push(Kind::Last, line.into());
    } else {
        io::stderr().write_all(&line).unwrap_or_default();
    }
}

/// Waits until what was logged is written, for one second at most.
pub(crate) fn flush() {
    let mut state = QUEUE.state.lock();
    if state.is_started {
        // What is not written by then is left behind.
        QUEUE.written.wait_while_for(&mut state, |state| state.bytes > 0, FLUSH);
    }
}

/// Ends the process after a panic that left something broken.
pub(crate) fn abort() -> ! {
    flush();
    std::process::abort()
}

/// How many lines were dropped since the process started.
pub(crate) fn dropped() -> u64 {
    QUEUE.state.lock().dropped
}

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        flush();
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(Kind::Logged)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LineWriter {
        // Nothing but the notice is logged in this file.
        LineWriter(if event.target() == module_path!() { Kind::Notice } else { Kind::Logged })
    }
}

impl Write for LineWriter {
    /// Never fails, for then the subscriber would complain on stderr.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(self.0, line.into());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    const fn new() -> Self {
        Self { is_started: false, lines: VecDeque::new(), bytes: 0, dropped: 0 }
    }
}

impl Line {
    fn bytes(&self) -> usize {
        self.text.len() + LINE_BYTES
    }
}

impl Queue {
    fn push(&self, kind: Kind, text: Box<[u8]>) {
        let line = Line { kind, text };
        let mut state = self.state.lock();
        if kind == Kind::Logged && state.bytes + line.bytes() > QUEUE_BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.bytes();
        state.lines.push_back(line);
        self.filled.notify_one();
    }

    /// Waits for the next line.
    fn next(&self) -> Line {
        let mut state = self.state.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                return line;
            }
            self.filled.wait(&mut state);
        }
    }

    /// Gives the place of the line back.
    fn finish(&self, line: &Line) {
        let mut state = self.state.lock();
        state.bytes -= line.bytes();
        if state.bytes == 0 {
            self.written.notify_all();
        }
    }
}

/// Writes what comes, for as long as the process lives.
fn write_lines() {
    let mut is_torn = false;
    // Of the lines that were dropped: how many a notice has told, and how many the notice in the queue will have told.
    let (mut told, mut telling) = (0, None);
    loop {
        let line = QUEUE.next();
        let is_written = write_line(&line.text, &mut is_torn);
        let dropped = {
            let mut state = QUEUE.state.lock();
            state.dropped += u64::from(!is_written);
            state.dropped
        };
        if line.kind == Kind::Notice {
            told = telling.take().filter(|_| is_written).unwrap_or(told);
        }
        if is_written && dropped > told && telling.is_none() {
            telling = Some(dropped);
            // An error, so that it is seen at every level at which lines can be lost.
            error!(lines = dropped - told, "lines of the log are lost");
        }
        QUEUE.finish(&line);
    }
}

/// Writes one line; whether all of it is written. A line that was torn off is ended first.
fn write_line(line: &[u8], is_torn: &mut bool) -> bool {
    if *is_torn && write(b"\n") == 0 {
        return false;
    }
    let written = write(line);
    *is_torn = written > 0 && written < line.len();
    written == line.len()
}

/// Writes, however long that takes, until nothing more can be written; how many bytes were.
fn write(text: &[u8]) -> usize {
    let mut rest = text;
    while !rest.is_empty() {
        match io::stderr().lock().write(rest) {
            Ok(0) => break,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares this stderr has made it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock && is_writable() => {}
            Err(_) => break,
        }
    }
    text.len() - rest.len()
}

/// Waits until stderr takes bytes again, or fails.
fn is_writable() -> bool {
    let stderr = io::stderr();
    let waited = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
    matches!(waited, Ok(_) | Err(Errno::INTR))
}
