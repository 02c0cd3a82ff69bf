//! Line: a doubly linked list of slots, so that a key leaves from anywhere in no time.

/// A slot's place in a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Links {
    before: Option<u32>,
    after: Option<u32>,
}

/// Slots waiting for their turn, first come first served. The links live in the slots themselves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Line {
    first: Option<u32>,
    last: Option<u32>,
}

/// Where the links of a slot are found.
pub(crate) trait Linked {
    fn links(&mut self, slot: u32) -> &mut Links;
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn first(&self) -> Option<u32> {
        self.first
    }

    /// Puts a slot that is in no line at the end of this one.
    pub(crate) fn join(&mut self, slots: &mut impl Linked, slot: u32) {
        *slots.links(slot) = Links { before: self.last, after: None };
        match self.last {
            Some(last) => slots.links(last).after = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
    }

    /// Takes a slot out of this line, wherever in it it stands.
    pub(crate) fn leave(&mut self, slots: &mut impl Linked, slot: u32) {
        let Links { before, after } = std::mem::take(slots.links(slot));
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
