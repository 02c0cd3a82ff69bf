//! Cursor: what of the table is read next, and where the cursor goes back to.
//!
//! Going back, it passes over entries of crowded targets that are full, and over nothing else.

use std::sync::Arc;

use super::{BYTES, ENTRIES, OF_HANGING, OfTarget, Ready, Target, Window};
use crate::due::record::Record;
use crate::due::{DueEntry, DueKey};
use crate::history::Page;
use crate::state::Timestamp;

/// A page to be read: the one after this entry, or the first.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::due) struct NextRead {
    pub(in crate::due) after: Option<DueKey>,
}

impl Window {
    /// The next page to read, if it is time to.
    pub(in crate::due) fn next_read(&mut self) -> Option<NextRead> {
        if self.is_reading || self.is_complete {
            return None;
        }
        if !self.has_capacity() {
            self.shed();
            if !self.has_capacity() {
                return None;
            }
        }
        self.is_reading = true;
        Some(NextRead { after: self.cursor.clone() })
    }

    fn has_capacity(&self) -> bool {
        self.known.len() < ENTRIES / 2 && self.bytes < BYTES
    }

    /// Leaves most of what is due of targets that do not answer in the store, to make way for others.
    fn shed(&mut self) {
        while self.of_hanging.len() > OF_HANGING
            && let Some(ready) = self.of_hanging.pop_back()
        {
            self.put_off(&ready);
        }
        let mut first = None;
        for (target, of) in self.targets.iter_mut().filter(|(_, of)| of.is_waiting) {
            while of.has_many()
                && let Some(ready) = of.queued.pop_back()
            {
                of.held -= 1;
                of.bytes -= ready.bytes;
                self.bytes -= ready.bytes;
                self.known.remove(&ready.key);
                if first.as_ref().is_none_or(|first| ready.key < *first) {
                    first = Some(ready.key);
                }
                self.crowded.insert(target.clone());
            }
        }
        if let Some(first) = first {
            self.leave_crowded(&first);
        }
    }

    /// Makes way for what is due: drops the last entries that wait for their time, until a quarter of the memory is taken. They
    /// lie behind the cursor then, so they are read again.
    fn drop_last(&mut self) {
        let is_much =
            |window: &Self| window.known.len() >= ENTRIES / 4 || window.bytes >= BYTES / 4;
        while is_much(self)
            && self.waiting.len() > 1
            && let Some((key, ready)) = self.waiting.pop_last()
        {
            self.known.remove(&key);
            self.release(&ready);
        }
        let Some(end) = self.waiting.last_key_value().map(|(key, _)| key.clone()) else { return };
        if let Some((cursor, is_complete)) = &mut self.resume
            && (*is_complete || *cursor > end)
        {
            (*cursor, *is_complete) = (end.clone(), false);
        }
        if self.is_complete || self.cursor.as_ref().is_some_and(|cursor| *cursor > end) {
            (self.cursor, self.is_complete) = (Some(end), false);
        }
    }

    /// Whether a page is being read. New entries wait until it is here.
    pub(in crate::due) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// A read failed, and is to be repeated.
    pub(in crate::due) fn not_read(&mut self) {
        self.is_reading = false;
    }

    /// Takes a page that was read. What is not to be tried yet is left. Returns the keys of entries that cannot be decoded; they
    /// stay in the store.
    pub(in crate::due) fn loaded(
        &mut self,
        page: Page<DueEntry>,
        is_early: impl Fn(&DueKey) -> bool,
    ) -> Vec<DueKey> {
        self.is_reading = false;
        self.is_complete = !page.more;
        let mut damaged = Vec::new();
        for entry in page.items {
            self.cursor = Some(entry.key.clone());
            if is_early(&entry.key) {
                self.leave(&entry.key);
                continue;
            }
            let bytes = entry.bytes();
            match Record::decode(entry.record) {
                Some(record) => {
                    let ready = Ready { key: entry.key, record: Box::new(record), bytes };
                    if !self.add(ready) && self.jump() {
                        break;
                    }
                }
                None => damaged.push(entry.key),
            }
        }
        let cursor = self.cursor.as_ref().map(|cursor| cursor.at);
        let is_past = |resume: &(DueKey, bool)| cursor > Some(resume.0.at);
        if self.is_complete || self.resume.as_ref().is_some_and(is_past) {
            (self.resume, self.sought) = (None, None);
        }
        for key in std::mem::take(&mut self.late) {
            self.known.remove(&key);
        }
        damaged
    }

    /// After the cursor went back and every crowded target is full again, only entries of others are of use up to where it was:
    /// goes on to the first of them, or to there.
    fn jump(&mut self) -> bool {
        let is_scarce = self.is_scarce();
        let is_full =
            |target: &Target| self.targets.get(target).is_some_and(|of| of.is_full(is_scarce));
        if self.resume.is_none() || !self.crowded.iter().all(is_full) {
            return false;
        }
        if let Some((first, last)) = &self.sought {
            // Not beyond where it was: what follows may not have been read.
            let before = before(first).min(self.resume.as_ref().map(|(cursor, _)| cursor.clone()));
            if before > self.cursor {
                (self.cursor, self.is_complete) = (before, false);
                return true;
            }
            if self.cursor.as_ref().is_none_or(|cursor| cursor < last) {
                return false;
            }
        }
        self.sought = None;
        if let Some((cursor, is_complete)) = self.resume.take() {
            (self.cursor, self.is_complete) = (Some(cursor), is_complete);
        }
        true
    }

    /// Notes that an entry stays in the store and is not known.
    pub(in crate::due) fn leave(&mut self, key: &DueKey) {
        self.leave_crowded(key);
        widen(&mut self.others, key.clone(), key.clone());
    }

    /// Notes that this entry and any others behind it stay in the store and are not known, wherever the cursor is.
    pub(in crate::due) fn leave_from(&mut self, first: DueKey) {
        self.leave_crowded(&first);
        let last = DueKey { at: Timestamp(u64::MAX), source: Arc::default() };
        widen(&mut self.others, first, last);
    }

    /// Like [`leave`](Self::leave), for an entry whose target has too many.
    pub(super) fn leave_crowded(&mut self, key: &DueKey) {
        if self.left.as_ref().is_none_or(|left| key < left) {
            self.left = Some(key.clone());
        }
    }

    /// Whether entries are left that would find a place: their target has few by now.
    pub(in crate::due) fn has_drained(&self) -> bool {
        let has_few = |target: &Target| self.targets.get(target).is_none_or(OfTarget::has_few);
        self.left.is_some() && self.crowded.iter().any(has_few)
    }

    /// Whether entries are left.
    pub(in crate::due) fn has_left(&self) -> bool {
        self.left.is_some()
    }

    /// Goes back to the first entry that was left, unless it will be read again in any case. Not while a page is read.
    pub(in crate::due) fn go_back(&mut self) {
        if self.left.is_some() && !self.has_capacity() {
            self.shed();
            self.drop_last();
        }
        let Some(left) = self.left.take() else { return };
        if let Some((first, last)) = self.others.take() {
            widen(&mut self.sought, first, last);
        }
        let before = before(&left);
        if self.cursor <= before {
            // It went back to an earlier one and has not come so far again.
            self.is_complete = false;
            return;
        }
        if self.resume.is_none() {
            self.resume = self.cursor.take().map(|cursor| (cursor, self.is_complete));
        }
        self.crowded.clear();
        self.cursor = before;
        self.is_complete = false;
    }

    /// Reads the whole table again.
    pub(in crate::due) fn sweep(&mut self) {
        self.leave_from(DueKey { at: Timestamp(0), source: Arc::default() });
        self.go_back();
    }
}

/// Where to read on so that this entry comes first; the first page when `None`.
fn before(key: &DueKey) -> Option<DueKey> {
    let at = Timestamp(key.at.0.saturating_sub(1));
    (key.at.0 > 0).then(|| DueKey { at, source: Arc::default() })
}

/// Widens a range of entries.
fn widen(range: &mut Option<(DueKey, DueKey)>, first: DueKey, last: DueKey) {
    *range = Some(match range.take() {
        Some((from, to)) => (from.min(first), to.max(last)),
        None => (first, last),
    });
}
