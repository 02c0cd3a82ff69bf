//! Log: how a line gets to stderr, on a thread of its own.
//!
//! Whoever logs never waits and never fails. The line goes into a queue of bounded size, and one thread
//! writes what is in the queue. A line for which there is no free place, or that cannot be written, is dropped and
//! counted. When stderr takes lines again, one more line says how many were dropped.

pub(crate) mod filter;
pub(crate) mod kinds;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::{Metadata, error};
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that wait to be written, those of the line that is being written included.
pub(crate) const QUEUE_BYTES: usize = 1 << 20;
/// About how many bytes a line in the queue takes besides its text.
const LINE_BYTES: usize = 64;
/// How often the thread looks for lines that were left out, while there are some.
const LOOK: Duration = Duration::from_secs(1);
/// How lines begin their target that say what was lost or left out.
const TARGET: &str = module_path!();
/// How long the process waits at its end until the log is written.
const FLUSH: Duration = Duration::from_secs(1);

/// There is one stderr, hence one queue.
static QUEUE: Queue =
    Queue { state: Mutex::new(State::new()), filled: Condvar::new(), written: Condvar::new() };

struct Queue {
    state: Mutex<State>,
    /// Notified when a line is queued.
    filled: Condvar,
    /// Notified when no line waits any more.
    written: Condvar,
}

struct State {
    is_started: bool,
    lines: VecDeque<Line>,
    /// Bytes of all lines in `lines` and of the one that is being written.
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

/// Waits for the log when it is dropped, as [`flush`] does.
#[derive(Debug)]
pub(crate) struct FlushOnDrop;

/// Starts the thread that writes, unless it runs.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start() -> io::Result<LogWriter> {
    let mut state = QUEUE.state.lock();
    if !state.is_started {
        // Never joined: it may hang in a write as long as no process reads stderr.
        thread::Builder::new().name("log".into()).spawn(write_lines)?;
        state.is_started = true;
    }
    Ok(LogWriter)
}

/// Writes a line to stderr, after the queued lines. Does nothing when stderr is closed.
pub(crate) fn say(text: &str) {
    let line = format!("{text}\n").into_bytes();
    if QUEUE.state.lock().is_started {
        QUEUE.push(Kind::Last, line.into());
    } else {
        io::stderr().write_all(&line).unwrap_or_default();
    }
}

/// Waits until the log is written, for one second at most.
pub(crate) fn flush() {
    kinds::tell(true);
    let mut state = QUEUE.state.lock();
    if state.is_started {
        // Lines that are not written by then are lost.
        QUEUE.written.wait_while_for(&mut state, |state| state.bytes > 0, FLUSH);
    }
}

/// Ends the process after a panic that broke an invariant.
pub(crate) fn abort() -> ! {
    flush();
    std::process::abort()
}

/// Has the thread look for lines that were left out.
fn wake() {
    let _state = QUEUE.state.lock();
    QUEUE.filled.notify_one();
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
        // This file logs the notice and nothing else.
        LineWriter(if event.target() == module_path!() { Kind::Notice } else { Kind::Logged })
    }
}

impl Write for LineWriter {
    /// Never fails: the subscriber would write about a failure to stderr itself.
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

    /// Waits for the next line. Says meanwhile what was left out.
    fn next(&self) -> Line {
        loop {
            kinds::tell(false);
            let mut state = self.state.lock();
            if let Some(line) = state.lines.pop_front() {
                return line;
            }
            if kinds::has_left_out() {
                self.filled.wait_for(&mut state, LOOK);
            } else {
                self.filled.wait(&mut state);
            }
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

/// Writes the queued lines until the process ends.
fn write_lines() {
    let mut is_torn = false;
    // How many dropped lines the notices have reported, and how many it will be with the notice in the queue.
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

/// Writes one line. Returns whether all of it is written. First ends an earlier line that was written in part.
fn write_line(line: &[u8], is_torn: &mut bool) -> bool {
    if *is_torn && write(b"\n") == 0 {
        return false;
    }
    let written = write(line);
    *is_torn = written > 0 && written < line.len();
    written == line.len()
}

/// Writes until all is written or stderr fails, however long that takes. Returns how many bytes were written.
fn write(text: &[u8]) -> usize {
    let mut rest = text;
    while !rest.is_empty() {
        match io::stderr().lock().write(rest) {
            Ok(0) => break,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares this stderr has made it non-blocking.
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
