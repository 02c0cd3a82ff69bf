//! Unfinished: how far an import has come, noted in the store that it fills.
//!
//! The note and what it speaks of are in one store, so neither can be there without the other; and a proxy knows by it
//! that something is missing, and does not start.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_stages::ports::StoreError;

use super::format::Counts;
use super::grammar::Part;
use super::lines::Mark;
use crate::store::Notes;

/// The note's name.
const NAME: &str = "import";

/// An import that has begun and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfinished {
    /// Sum of the file's last line, and with it of the whole file.
    pub(super) file: u64,
    /// Whether the store held something before.
    pub(super) merge: bool,
    offset: u64,
    lines: u64,
    sum: u64,
    pub(super) part: Part,
    pub(super) counts: Counts,
    pub(super) kept: u64,
    pub(super) differing: u64,
}

impl Unfinished {
    /// One that has just begun: the header was read.
    pub(super) fn new(file: u64, merge: bool, mark: Mark) -> Self {
        let (part, counts) = (Part::Registered, Counts::default());
        let Mark { offset, lines, sum } = mark;
        Self { file, merge, offset, lines, sum, part, counts, kept: 0, differing: 0 }
    }

    /// Where it goes on.
    pub(super) fn mark(&self) -> Mark {
        Mark { offset: self.offset, lines: self.lines, sum: self.sum }
    }

    /// It has come to here.
    pub(super) fn move_to(&mut self, mark: Mark) {
        (self.offset, self.lines, self.sum) = (mark.offset, mark.lines, mark.sum);
    }
}

/// The import that has not ended.
pub(super) async fn load(notes: &dyn Notes) -> Result<Option<Unfinished>, StoreError> {
    let Some(note) = notes.note(NAME).await? else { return Ok(None) };
    let note = serde_json::from_slice(&note);
    note.map(Some)
        .map_err(|error| StoreError::Corrupt(format!("what is noted of an import: {error}")))
}

/// Notes how far it has come.
pub(super) async fn note(notes: &dyn Notes, unfinished: Unfinished) -> Result<(), StoreError> {
    let note = serde_json::to_vec(&unfinished);
    let note = note.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    notes.put_note(NAME, Some(Bytes::from(note))).await
}

/// Whether an import into the store has begun and has not ended.
///
/// # Errors
/// When the store fails.
pub async fn is_unfinished(notes: &dyn Notes) -> Result<bool, StoreError> {
    Ok(notes.note(NAME).await?.is_some())
}

/// Forgets an import that has not ended; what it wrote stays. Answers whether there was one.
///
/// # Errors
/// When the store fails.
pub async fn give_up(notes: &dyn Notes) -> Result<bool, StoreError> {
    let was = is_unfinished(notes).await?;
    if was {
        notes.put_note(NAME, None).await?;
    }
    Ok(was)
}
