//! Unfinished: the progress of an import, noted in the store that it fills.
//!
//! The note and the imported content are in one store, so neither exists without the other. A proxy that
//! finds the note knows that content is missing, and does not start.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_stages::ports::StoreError;

use super::format::Counts;
use super::grammar::Part;
use super::lines::Mark;
use crate::store::Notes;

const NAME: &str = "import";

/// An import that has begun and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfinished {
    /// Sum of the file's last line; identifies the whole file.
    pub(super) file: u64,
    /// Whether the store may hold content from before the import.
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
    /// Starts after the header.
    pub(super) fn new(file: u64, merge: bool, mark: Mark) -> Self {
        let (part, counts) = (Part::Registered, Counts::default());
        let Mark { offset, lines, sum } = mark;
        Self { file, merge, offset, lines, sum, part, counts, kept: 0, differing: 0 }
    }

    /// Returns the position at which the import continues.
    pub(super) fn mark(&self) -> Mark {
        Mark { offset: self.offset, lines: self.lines, sum: self.sum }
    }

    pub(super) fn move_to(&mut self, mark: Mark) {
        (self.offset, self.lines, self.sum) = (mark.offset, mark.lines, mark.sum);
    }
}

/// Returns the unfinished import.
pub(super) async fn load(notes: &dyn Notes) -> Result<Option<Unfinished>, StoreError> {
    let Some(note) = notes.note(NAME).await? else { return Ok(None) };
    let note = serde_json::from_slice(&note);
    note.map(Some)
        .map_err(|error| StoreError::Corrupt(format!("what is noted of an import: {error}")))
}

pub(super) async fn note(notes: &dyn Notes, unfinished: Unfinished) -> Result<(), StoreError> {
    let note = serde_json::to_vec(&unfinished);
    let note = note.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    notes.put_note(NAME, Some(Bytes::from(note))).await
}

/// Whether the store holds an unfinished import.
///
/// # Errors
/// When the store fails.
pub async fn is_unfinished(notes: &dyn Notes) -> Result<bool, StoreError> {
    Ok(notes.note(NAME).await?.is_some())
}

/// Forgets an unfinished import; its writes stay. Returns whether there was one.
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
