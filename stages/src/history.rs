//! History: which revisions of an actor are asked for, and which are kept.

use std::time::Duration;

use crate::state::{Revision, Timestamp};

/// A part of a history: both ends optional and inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interval {
    /// Nothing before this time.
    pub from: Option<Timestamp>,
    /// Nothing after this time.
    pub to: Option<Timestamp>,
    /// Only what comes after this place: where the last page ended.
    pub after: Option<Place>,
}

impl Interval {
    /// All of a history.
    pub const ALL: Self = Self { from: None, to: None, after: None };

    /// What lies between two times, both inclusive.
    pub fn between(from: Timestamp, to: Timestamp) -> Self {
        Self { from: Some(from), to: Some(to), after: None }
    }

    /// Whether a revision is part of it.
    pub fn holds(&self, revision: &Revision) -> bool {
        self.from.is_none_or(|from| from <= revision.at)
            && self.to.is_none_or(|to| revision.at <= to)
            && self.after.is_none_or(|after| after < Place::of(revision))
    }
}

/// Where a revision stands in its actor's history: by time, then by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its time.
    pub at: Timestamp,
    /// Its number.
    pub revision: u64,
}

impl Place {
    /// The place of a revision.
    pub fn of(revision: &Revision) -> Self {
        Self { at: revision.at, revision: revision.revision }
    }
}

/// One page of a longer answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What it holds.
    pub items: Vec<T>,
    /// Whether more may follow; never when it holds nothing.
    pub more: bool,
}

impl<T> Page<T> {
    /// A page that nothing follows and that holds nothing.
    pub const EMPTY: Self = Self { items: Vec::new(), more: false };
}

/// Bytes of states that a page of a history holds at most, its last entry aside.
pub const PAGE_BYTES: usize = 4 << 20;

/// Which revisions retention keeps; the newest is kept in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest; `None`: any number.
    pub newest: Option<u64>,
    /// Those at or after this time; `None`: from any time.
    pub since: Option<Timestamp>,
}

/// How much of each actor's history is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest revisions; `None`: any number.
    pub revisions: Option<u64>,
    /// Those of at most this age; `None`: of any age.
    pub age: Option<Duration>,
}

impl Retention {
    /// Whether everything is kept.
    pub fn is_endless(&self) -> bool {
        self.revisions.is_none() && self.age.is_none()
    }

    /// What it keeps now.
    pub fn keep(&self, now: Timestamp) -> Keep {
        let since = |age: Duration| {
            let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            Timestamp(now.0.saturating_sub(age_us))
        };
        Keep { newest: self.revisions, since: self.age.map(since) }
    }
}
