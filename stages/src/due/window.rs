//! Window: the next entries of due work, in memory. Pure: it is told the time.
//!
//! It holds what a store has up to a *cursor*, bounded in entries and bytes, and for each target. What finds no place, or is
//! to be tried again, is *left* in the store: later the cursor goes back to it ([`cursor`]).

mod cursor;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::due::known::Known;
use crate::due::record::Record;
use crate::due::{DueEntry, DueKey};
use crate::state::Timestamp;

/// Entries in memory at most (decision 41).
pub(super) const ENTRIES: usize = 16_384;
/// Their bytes, and one page more.
const BYTES: usize = 16 << 20;
/// Entries of one target in memory.
const OF_TARGET: usize = 1_024;
/// The same, and their bytes, while a call to it waits for its answer and memory is scarce.
const OF_WAITING: usize = 16;
const BYTES_OF_WAITING: usize = 64 << 10;
/// Entries of targets that hang, due and without a place, while memory is scarce.
const OF_HANGING: usize = 1_024;
/// Targets that are remembered because they hang.
const HANGING: usize = 16_384;
/// Calls to one actor at once: it runs one of them, the others are queued.
const OF_ACTOR: usize = 4;

/// System and name of an actor.
pub(super) type Target = (String, String);

/// An entry that can be called.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) key: DueKey,
    pub(super) record: Box<Record>,
    bytes: usize,
}

/// What is known of one target that has entries.
#[derive(Debug, Default)]
struct OfTarget {
    /// All in memory, also those that are not due.
    held: usize,
    bytes: usize,
    called: usize,
    /// Whether the last call that ended was answered. Until then, one call at a time tries whether it answers.
    has_answered: bool,
    /// Whether a call has been without an answer for a while, since the last answer.
    is_waiting: bool,
    /// Due, to be called when fewer calls are under way.
    queued: VecDeque<Ready>,
}

impl OfTarget {
    /// Whether it has as many entries as it may have.
    fn is_full(&self, is_scarce: bool) -> bool {
        let is_short = is_scarce && self.is_waiting;
        self.held >= OF_TARGET || is_short && self.has_many()
    }

    fn has_many(&self) -> bool {
        self.held >= OF_WAITING || self.bytes >= BYTES_OF_WAITING
    }

    /// Whether there is capacity again after it was full. Then it is not full: it would be read again and again.
    fn has_few(&self) -> bool {
        if self.is_waiting {
            self.held < OF_WAITING / 2 && self.bytes < BYTES_OF_WAITING / 2
        } else {
            self.held < OF_TARGET / 2
        }
    }

    /// Whether one more call may be made to it.
    fn may_call(&self, record: &Record, at_once: usize) -> bool {
        let most = match (self.has_answered, record.invocation.pooled) {
            (false, _) => 1,
            (true, true) => at_once,
            (true, false) => at_once.min(OF_ACTOR),
        };
        self.called < most
    }
}

#[derive(Debug, Default)]
pub(super) struct Window {
    /// Not due yet, or not looked at since.
    waiting: BTreeMap<DueKey, Ready>,
    /// Due, and their target has a call less.
    ready: VecDeque<Ready>,
    /// The same of targets that hang, when there is no place for them.
    of_hanging: VecDeque<Ready>,
    /// Targets that left a call without an answer for a while and have answered none since. They are remembered while they have no
    /// entries in memory; when there are too many, all are forgotten.
    hanging: HashSet<Target>,
    /// All entries in memory, and those whose removal from the store is under way.
    known: Known,
    targets: HashMap<Target, OfTarget>,
    bytes: usize,
    /// Calls to one pool at once.
    at_once: usize,
    /// The last entry that was read.
    cursor: Option<DueKey>,
    /// Whether the store has no entry behind the cursor that is not known.
    is_complete: bool,
    is_reading: bool,
    /// Removed from the store during a read, whose page may still have them.
    late: Vec<DueKey>,
    /// The first entry that was left in the store before the cursor.
    left: Option<DueKey>,
    /// The first and the last one of those that were left although their target is not crowded.
    others: Option<(DueKey, DueKey)>,
    /// The same of those that the cursor has gone back for, and has not passed.
    sought: Option<(DueKey, DueKey)>,
    /// Targets of which entries were left because they have many.
    crowded: HashSet<Target>,
    /// Stored again after their time had come and before they were called.
    replaced: HashSet<DueKey>,
    /// For each paused target its first entry that is due; they stay in the store. As many as actors are paused.
    held_back: HashMap<Target, DueKey>,
    /// Where the cursor goes on after it went back, and what was true there.
    resume: Option<(DueKey, bool)>,
}

/// What metrics show of a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WindowView {
    /// Entries in memory.
    pub(super) entries: usize,
    /// How many of them are looks at schedules.
    pub(super) schedules: usize,
    /// The first whose time may have come and that is not called.
    pub(super) first: Option<Timestamp>,
}

/// The target of an entry.
pub(super) fn target(record: &Record) -> Target {
    let id = &record.invocation.actor;
    (id.system.clone(), id.name.clone())
}

fn is_to(ready: &Ready, (system, name): &Target) -> bool {
    let id = &ready.record.invocation.actor;
    id.system == *system && id.name == *name
}

impl Window {
    /// Whether targets that do not answer take too much of the memory.
    fn is_scarce(&self) -> bool {
        self.known.len() >= ENTRIES / 4 || self.bytes >= BYTES / 4
    }

    /// A call to this target has been without an answer for a while.
    pub(super) fn waits(&mut self, target: &Target) {
        if let Some(of) = self.targets.get_mut(target) {
            of.is_waiting = true;
        }
        if self.hanging.len() >= HANGING && !self.hanging.contains(target) {
            self.hanging.clear();
        }
        self.hanging.insert(target.clone());
    }

    /// Whether a target left a call without an answer for a while and has answered none since.
    pub(super) fn hangs(&self, target: &Target) -> bool {
        self.hanging.contains(target)
    }

    /// Takes an entry that was just stored, or leaves it to be read.
    pub(super) fn offer(&mut self, entry: DueEntry) {
        let waits = self.waiting.contains_key(&entry.key);
        if !waits && entry.key.has_id() && self.known.contains(&entry.key) {
            self.replaced.insert(entry.key);
            return;
        }
        // After the cursor went back, what counts is how far it had come: it may jump there.
        let (cursor, is_complete) = match &self.resume {
            Some((cursor, is_complete)) => (Some(cursor), *is_complete),
            None => (self.cursor.as_ref(), self.is_complete),
        };
        if !waits && !is_complete && cursor.is_none_or(|cursor| entry.key.at > cursor.at) {
            return;
        }
        let bytes = entry.bytes();
        if !waits && (self.known.len() >= ENTRIES || self.bytes >= BYTES) {
            self.leave(&entry.key);
        } else if let Some(record) = Record::decode(entry.record) {
            self.add(Ready { key: entry.key, record: Box::new(record), bytes });
        }
    }

    /// Returns false when the entry's target has too many.
    fn add(&mut self, ready: Ready) -> bool {
        if let Some(before) = self.waiting.remove(&ready.key) {
            // It was stored again: the last one counts.
            self.release(&before);
            self.hold(ready);
            return true;
        }
        if self.known.contains(&ready.key) {
            return true;
        }
        let (target, is_scarce) = (target(&ready.record), self.is_scarce());
        if self.targets.get(&target).is_some_and(|of| of.is_full(is_scarce)) {
            self.crowded.insert(target);
            self.leave_crowded(&ready.key);
            return false;
        }
        self.hold(ready);
        true
    }

    /// Takes an entry that waits for its time.
    fn hold(&mut self, ready: Ready) {
        let of_target = self.targets.entry(target(&ready.record)).or_default();
        of_target.held += 1;
        of_target.bytes += ready.bytes;
        self.bytes += ready.bytes;
        self.known.insert(ready.key.clone());
        self.waiting.insert(ready.key.clone(), ready);
    }

    /// An entry was removed from the store although its time has not come. Not while a page is read.
    pub(super) fn cancel(&mut self, key: &DueKey) {
        if let Some(ready) = self.waiting.remove(key) {
            self.known.remove(key);
            self.release(&ready);
        }
    }

    /// Entries were removed from the store, and it is not known which: all are read again. Not while a page is read.
    pub(super) fn forget(&mut self) {
        for (key, ready) in std::mem::take(&mut self.waiting) {
            self.known.remove(&key);
            self.release(&ready);
        }
        (self.cursor, self.resume, self.is_complete) = (None, None, false);
        (self.left, self.others, self.sought) = (None, None, None);
        self.crowded.clear();
        let queued = self.targets.values().flat_map(|of| &of.queued).chain(&self.ready);
        let keys =
            queued.chain(&self.of_hanging).map(|ready| &ready.key).filter(|key| key.has_id());
        self.replaced.extend(keys.cloned());
    }

    /// An entry that was not called leaves.
    fn release(&mut self, ready: &Ready) {
        self.bytes = self.bytes.saturating_sub(ready.bytes);
        let target = target(&ready.record);
        if let Some(of_target) = self.targets.get_mut(&target) {
            of_target.held = of_target.held.saturating_sub(1);
            of_target.bytes = of_target.bytes.saturating_sub(ready.bytes);
            if of_target.held == 0 {
                self.targets.remove(&target);
            }
        }
    }

    /// When the next entry is due; one whose target has too many calls does not count.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        if !self.ready.is_empty() {
            return Some(Timestamp(0));
        }
        self.waiting.first_key_value().map(|(key, _)| key.at)
    }

    /// Takes the next entry that is due and may be called. Of one pool at most `at_once` are called at a time, and of one actor
    /// few. Those of a paused target are held back and take no memory. Those of a target that hangs are taken first, but only when
    /// they may: so they wait for none of the others, and no other one waits for them.
    pub(super) fn take_due(
        &mut self,
        now: Timestamp,
        at_once: usize,
        may_hang: bool,
        is_paused: impl Fn(&Record) -> bool,
    ) -> Option<Ready> {
        self.at_once = at_once;
        loop {
            let of_hanging = if may_hang { self.of_hanging.pop_front() } else { None };
            let Some(ready) = of_hanging.or_else(|| self.ready.pop_front()) else { break };
            let target = target(&ready.record);
            if is_paused(&ready.record) {
                let key = ready.key.clone();
                self.over(&ready, None);
                self.hold_back(target, key);
            } else if !may_hang && self.hangs(&target) {
                self.of_hanging.push_back(ready);
            } else {
                return Some(ready);
            }
        }
        while self.waiting.first_key_value().is_some_and(|(key, _)| key.at <= now) {
            let (_, ready) = self.waiting.pop_first()?;
            let target = target(&ready.record);
            if is_paused(&ready.record) {
                self.release(&ready);
                self.hold_back(target, ready.key);
                continue;
            }
            let has_no_place = !may_hang && self.hangs(&target);
            let of_target = self.targets.entry(target).or_default();
            if !of_target.may_call(&ready.record, at_once) {
                of_target.queued.push_back(ready);
                continue;
            }
            of_target.called += 1;
            if !has_no_place {
                return Some(ready);
            }
            self.of_hanging.push_back(ready);
        }
        None
    }

    fn hold_back(&mut self, target: Target, key: DueKey) {
        self.known.remove(&key);
        let first = self.held_back.entry(target).or_insert_with(|| key.clone());
        if key < *first {
            *first = key;
        }
    }

    /// Leaves what was held back of targets that are not paused any more, to be read again. Returns whether there is any.
    pub(super) fn let_go(&mut self, is_paused: impl Fn(&str, &str) -> bool) -> bool {
        let resumed = self.held_back.extract_if(|(system, name), _| !is_paused(system, name));
        let first = resumed.map(|(_, key)| key).min();
        let has_any = first.is_some();
        if let Some(first) = first {
            self.leave_from(first);
        }
        has_any
    }

    /// Whether the entry that was taken was stored again meanwhile.
    pub(super) fn take_replaced(&mut self, key: &DueKey) -> bool {
        self.replaced.remove(key)
    }

    /// An entry is not called now: it was stored again, and is read again.
    pub(super) fn put_off(&mut self, ready: &Ready) {
        self.over(ready, None);
        self.known.remove(&ready.key);
        self.leave(&ready.key);
    }

    /// The call of an entry has ended. The entry stays known until it [is removed](Self::removed), or else it is left.
    pub(super) fn ended(&mut self, ready: &Ready, is_done: bool) {
        self.over(ready, Some(is_done));
        if !is_done {
            self.known.remove(&ready.key);
            self.leave(&ready.key);
        }
    }

    /// An entry is no longer called. The next ones of its target take its place.
    fn over(&mut self, ready: &Ready, is_answered: Option<bool>) {
        let target = target(&ready.record);
        self.bytes = self.bytes.saturating_sub(ready.bytes);
        if is_answered == Some(true) && self.hanging.remove(&target) {
            let of_hanging = std::mem::take(&mut self.of_hanging).into_iter();
            let (answers, hang): (VecDeque<_>, VecDeque<_>) =
                of_hanging.partition(|ready| is_to(ready, &target));
            self.of_hanging = hang;
            self.ready.extend(answers);
        }
        if let Some(of) = self.targets.get_mut(&target) {
            of.held = of.held.saturating_sub(1);
            of.bytes = of.bytes.saturating_sub(ready.bytes);
            of.called = of.called.saturating_sub(1);
            of.has_answered = is_answered.unwrap_or(of.has_answered);
            of.is_waiting &= !of.has_answered;
            while let Some(next) = of.queued.front()
                && of.may_call(&next.record, self.at_once)
                && let Some(next) = of.queued.pop_front()
            {
                of.called += 1;
                self.ready.push_back(next);
            }
            if of.held == 0 {
                self.targets.remove(&target);
            }
        }
    }

    /// An entry is gone from the store.
    pub(super) fn removed(&mut self, key: DueKey) {
        if self.is_reading {
            self.late.push(key);
        } else {
            self.known.remove(&key);
        }
    }

    /// Whether the store has no entry before a time, also none that is done and not removed.
    pub(super) fn has_none_before(&self, time: Timestamp) -> bool {
        let is_not_before = |key: &DueKey| key.at >= time;
        !self.is_reading
            && (self.is_complete || self.cursor.as_ref().is_some_and(is_not_before))
            && self.left.as_ref().is_none_or(is_not_before)
            && self.held_back.values().all(is_not_before)
            && !self.known.has_before(time)
    }

    /// What metrics show of it.
    pub(super) fn view(&self) -> WindowView {
        let ready = self.ready.front().map(|ready| ready.key.at);
        let of_hanging = self.of_hanging.front().map(|ready| ready.key.at);
        let waiting = self.waiting.first_key_value().map(|(key, _)| key.at);
        let left = self.left.as_ref().map(|left| left.at).filter(|at| at.0 > 0);
        let first = [ready, of_hanging, waiting, left].into_iter().flatten().min();
        WindowView { entries: self.known.len(), schedules: self.known.schedules(), first }
    }

    #[cfg(test)]
    fn held(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests;
