//! Audit: one line for each refused and each carried-out administrative request: who, what, and its outcome (decision 37).
//!
//! On the log it is best effort, as all of the log is. With a file, a request whose line cannot be written is not carried
//! out. There the line of a request that is carried out is written before, with the outcome `begun`, and one with the same
//! number tells how it ended.

mod file;

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::metrics::counter;
use tracing::info;

use crate::metrics::AUDIT_LINES_DROPPED_TOTAL;
pub use file::{AuditWriter, NotWritten};

/// Longest text in a line, in bytes; the rest is left out.
const TEXT_BYTES: usize = 1_024;

/// The outcome of a request that is about to be carried out.
pub(crate) const BEGUN: &str = "begun";

/// Where audit lines go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Audit(Arc<Lines>);

#[derive(Debug, Default)]
struct Lines {
    file: Option<file::AuditFile>,
    /// Number of the last request.
    last: AtomicU64,
}

/// A request that is being carried out. Dropped without an [end](Self::end), it says that nobody knows its outcome.
#[derive(Debug)]
pub(crate) struct Entry {
    audit: Audit,
    number: u64,
    who: String,
    what: String,
    is_ended: bool,
}

impl Audit {
    /// Lines go to the log only.
    pub fn on_log() -> Self {
        Self::default()
    }

    /// Lines go to the log and to this file, which `AuditWriter` writes.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn in_file(path: std::path::PathBuf) -> std::io::Result<(Self, AuditWriter)> {
        let (file, writer) = file::open(path)?;
        Ok((Self(Arc::new(Lines { file: Some(file), last: AtomicU64::new(0) })), writer))
    }

    /// Tells of a request that is refused.
    ///
    /// # Errors
    /// When the file does not take the line.
    pub(crate) async fn refused(
        &self,
        who: &impl Display,
        what: &str,
        why: &impl Display,
    ) -> Result<(), NotWritten> {
        let entry = self.entry(who, what);
        let outcome = cut(format!("refused: {why}"));
        entry.log(&outcome);
        let written = entry.write(&outcome).await;
        entry.forget();
        written
    }

    /// Tells of a request that is about to be carried out.
    ///
    /// # Errors
    /// When the file does not take the line: then it must not be carried out.
    pub(crate) async fn begin(&self, who: &impl Display, what: &str) -> Result<Entry, NotWritten> {
        let entry = self.entry(who, what);
        match entry.write(BEGUN).await {
            Ok(()) => Ok(entry),
            Err(error) => {
                entry.log("refused: its line could not be written to TIDEGATE_AUDIT_FILE");
                entry.forget();
                Err(error)
            }
        }
    }

    fn entry(&self, who: &impl Display, what: &str) -> Entry {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (audit, who, what) = (self.clone(), cut(who.to_string()), cut(what.to_owned()));
        Entry { audit, number, who, what, is_ended: false }
    }
}

impl Entry {
    /// Tells how the request ended.
    pub(crate) fn end(mut self, outcome: &str) {
        self.tell(&cut(outcome.to_owned()));
    }

    fn tell(&mut self, outcome: &str) {
        self.is_ended = true;
        self.log(outcome);
        if let Some(file) = &self.audit.0.file
            && file.offer(self.line(outcome)).is_err()
        {
            counter!(AUDIT_LINES_DROPPED_TOTAL).increment(1);
        }
    }

    /// Writes the entry to the log, as texts: the log quotes a text, so what a client chose cannot look like another line.
    pub(crate) fn log(&self, outcome: &str) {
        let Self { number, who, what, .. } = self;
        let (who, what, outcome) = (escaped(who), escaped(what), escaped(outcome));
        info!(target: "audit", number, who = &*who, what = &*what, outcome = &*outcome, "audit");
    }

    async fn write(&self, outcome: &str) -> Result<(), NotWritten> {
        match &self.audit.0.file {
            Some(file) => file.write(self.line(outcome)).await,
            None => Ok(()),
        }
    }

    fn line(&self, outcome: &str) -> String {
        file::line(self.number, &self.who, &self.what, outcome)
    }

    /// Ends it without a word: all has been said.
    fn forget(mut self) {
        self.is_ended = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_ended {
            self.tell("its client has gone before the end, or the request failed by a defect");
        }
    }
}

/// A text with those control characters written out that JSON leaves as they are.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_left_by_json) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_left_by_json(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// DEL and the control characters beyond ASCII.
fn is_left_by_json(c: char) -> bool {
    c.is_control() && c >= '\u{7f}'
}

/// The beginning of a text that is too long.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
