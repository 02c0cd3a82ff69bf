//! History: selects revisions of an actor to read, and revisions to keep.

use std::time::Duration;

use crate::state::{Revision, Timestamp};

/// A part of a history. Both ends are optional and inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interval {
    /// No revision before this time.
    pub from: Option<Timestamp>,
    /// No revision after this time.
    pub to: Option<Timestamp>,
    /// Only revisions after this place, the last of the page before.
    pub after: Option<Position>,
}

impl Interval {
    /// A whole history.
    pub const ALL: Self = Self { from: None, to: None, after: None };

    /// The part between two times, both inclusive.
    pub fn between(from: Timestamp, to: Timestamp) -> Self {
        Self { from: Some(from), to: Some(to), after: None }
    }

    /// Whether the interval contains a revision.
    pub fn holds(&self, revision: &Revision) -> bool {
        self.from.is_none_or(|from| from <= revision.at)
            && self.to.is_none_or(|to| revision.at <= to)
            && self.after.is_none_or(|after| after < Position::of(revision))
    }
}

/// The position of a revision in its actor's history: ordered by time, then by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its time.
    pub at: Timestamp,
    /// Its number.
    pub revision: u64,
}

impl Position {
    /// The place of a revision.
    pub fn of(revision: &Revision) -> Self {
        Self { at: revision.at, revision: revision.revision }
    }
}

/// One page of a longer result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items of the page.
    pub items: Vec<T>,
    /// Whether more items may follow; false for an empty page.
    pub more: bool,
}

impl<T> Page<T> {
    /// An empty page; no page follows it.
    pub const EMPTY: Self = Self { items: Vec::new(), more: false };

    /// Ends the page behind the item with which its bytes reach [`PAGE_BYTES`].
    pub(crate) fn fitting(mut self, bytes: impl Fn(&T) -> usize) -> Self {
        let mut sum = 0;
        let fitting = self.items.iter().take_while(|item| {
            let fits = sum < PAGE_BYTES;
            sum += bytes(item);
            fits
        });
        let fitting = fitting.count();
        self.more |= fitting < self.items.len();
        self.items.truncate(fitting);
        self
    }
}

/// Most bytes of states in a page of a history, not counting its last entry.
pub const PAGE_BYTES: usize = 4 << 20;

/// The revisions that retention keeps. The newest is always kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// This many of the newest; `None`: any number.
    pub newest: Option<u64>,
    /// Revisions at or after this time; `None`: of any time.
    pub since: Option<Timestamp>,
}

/// How much of each actor's history retention keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// This many of the newest revisions; `None`: any number.
    pub revisions: Option<u64>,
    /// Revisions of at most this age; `None`: of any age.
    pub age: Option<Duration>,
}

impl Retention {
    /// Whether all revisions are kept.
    pub fn is_endless(&self) -> bool {
        self.revisions.is_none() && self.age.is_none()
    }

    /// Returns what to keep at `now`.
    pub fn keep(&self, now: Timestamp) -> Keep {
        let since = |age: Duration| {
            let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            Timestamp(now.0.saturating_sub(age_us))
        };
        Keep { newest: self.revisions, since: self.age.map(since) }
    }
}
