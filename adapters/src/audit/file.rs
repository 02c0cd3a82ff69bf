//! File: audit lines on disk, one JSON object each. One thread writes them; whoever needs a line written waits for it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tidegate_stages::ports::Clock;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::error;

use crate::clock::SystemClock;
use crate::moment;

/// Most lines that wait to be written; another one waits until a line has left.
const QUEUE: usize = 256;
/// How long a line may take to be on disk.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// A line is not on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line of this request could not be written to TIDEGATE_AUDIT_FILE")]
pub struct NotWritten;

/// The queue of lines.
#[derive(Debug)]
pub(super) struct AuditFile(flume::Sender<Waiting>);

/// Writes lines; runs until no [`Audit`](super::Audit) is left.
#[derive(Debug)]
pub struct AuditWriter {
    path: PathBuf,
    waiting: flume::Receiver<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    line: String,
    written: Option<oneshot::Sender<()>>,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    number: u64,
    who: &'a str,
    what: &'a str,
    outcome: &'a str,
}

/// Opens the file.
pub(super) fn open(path: PathBuf) -> io::Result<(AuditFile, AuditWriter)> {
    append_to(&path)?;
    let (lines, waiting) = flume::bounded(QUEUE);
    Ok((AuditFile(lines), AuditWriter { path, waiting }))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// One line, its end included. Control characters in it are escaped.
pub(super) fn line(number: u64, who: &str, what: &str, outcome: &str) -> String {
    let at = moment::show(SystemClock.now());
    let line = Line { at, number, who, what, outcome };
    let json = serde_json::to_string(&line).expect("texts and a number become JSON");
    let mut escaped = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // JSON leaves DEL and those beyond ASCII as they are. They are in texts only.
        if c.is_control() {
            write!(escaped, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
        } else {
            escaped.push(c);
        }
    }
    escaped.push('\n');
    escaped
}

impl AuditFile {
    /// Returns when the line is on disk.
    pub(super) async fn write(&self, line: String) -> Result<(), NotWritten> {
        let (written, is_written) = oneshot::channel();
        let writing = async {
            let waiting = Waiting { line, written: Some(written) };
            self.0.send_async(waiting).await.map_err(|_| NotWritten)?;
            is_written.await.map_err(|_| NotWritten)
        };
        timeout(WRITE_LIMIT, writing).await.unwrap_or(Err(NotWritten))
    }

    /// Puts a line into the queue, unless it is full.
    pub(super) fn offer(&self, line: String) -> Result<(), NotWritten> {
        self.0.try_send(Waiting { line, written: None }).map_err(|_| NotWritten)
    }
}

impl AuditWriter {
    /// Writes what comes; to be run on a thread that may block.
    pub fn run(self) {
        let (mut fails, mut is_torn) = (false, false);
        while let Ok(first) = self.waiting.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(self.waiting.drain()).collect();
            match self.write(&batch, &mut is_torn) {
                Ok(()) => {
                    fails = false;
                    let written = batch.into_iter().filter_map(|waiting| waiting.written);
                    // Whoever waited may have gone.
                    written.for_each(|written| written.send(()).unwrap_or_default());
                }
                Err(error) => {
                    if !fails {
                        let path = self.path.display();
                        error!(%path, %error, "audit lines cannot be written: what needs one is refused");
                    }
                    fails = true;
                }
            }
        }
    }

    /// Opens the file for each batch: it may have been moved away, as rotation does.
    fn write(&self, batch: &[Waiting], is_torn: &mut bool) -> io::Result<()> {
        let mut file = append_to(&self.path)?;
        let mut lines = String::new();
        if *is_torn {
            lines.push('\n');
        }
        lines.extend(batch.iter().map(|waiting| waiting.line.as_str()));
        *is_torn = true;
        file.write_all(lines.as_bytes())?;
        *is_torn = false;
        file.sync_data()
    }
}
