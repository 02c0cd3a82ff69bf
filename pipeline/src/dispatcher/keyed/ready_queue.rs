//! Ready queue: a doubly linked list of slots, from which a slot is removed at any position at
//! constant cost.

/// The neighbours of a slot in its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Links {
    before: Option<u32>,
    after: Option<u32>,
}

impl Links {
    /// The slot before this one in its queue.
    pub(crate) fn before(self) -> Option<u32> {
        self.before
    }

    /// The slot behind this one in its queue.
    pub(crate) fn after(self) -> Option<u32> {
        self.after
    }
}

/// The slots of ready keys, first in first out. Each slot holds its own links.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReadyQueue {
    first: Option<u32>,
    last: Option<u32>,
    len: usize,
}

/// Finds the links of a slot.
pub(crate) trait Linked {
    fn links(&mut self, slot: u32) -> &mut Links;
}

impl ReadyQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn first(&self) -> Option<u32> {
        self.first
    }

    pub(crate) fn last(&self) -> Option<u32> {
        self.last
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a slot that is in no queue.
    pub(crate) fn push_back(&mut self, slots: &mut impl Linked, slot: u32) {
        *slots.links(slot) = Links { before: self.last, after: None };
        match self.last {
            Some(last) => slots.links(last).after = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
        self.len += 1;
    }

    /// Puts a slot that is in no queue before all others.
    pub(crate) fn push_front(&mut self, slots: &mut impl Linked, slot: u32) {
        *slots.links(slot) = Links { before: None, after: self.first };
        match self.first {
            Some(first) => slots.links(first).before = Some(slot),
            None => self.last = Some(slot),
        }
        self.first = Some(slot);
        self.len += 1;
    }

    /// Removes a slot, which must be in this queue.
    pub(crate) fn remove(&mut self, slots: &mut impl Linked, slot: u32) {
        let Links { before, after } = std::mem::take(slots.links(slot));
        self.len -= 1;
        match before {
            Some(before) => slots.links(before).after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => slots.links(after).before = before,
            None => self.last = before,
        }
    }
}
