//! Places: the gate of the model.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::Mail;
use crate::gate::{Entry, Gate};

/// A gate with this many places. Even keys need one, and key 0 may hold one at a time. Remembers who holds them.
const PLACES: usize = 3;

#[derive(Debug, Clone, Default)]
pub(crate) struct Places(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Places {
    pub(super) fn entry(&self, key: u8) -> Entry {
        let held = self.0.lock();
        match key {
            0 if held.contains(&0) => Entry::Waits,
            _ if held.len() >= PLACES => Entry::Full,
            _ => Entry::Entered,
        }
    }
}

impl Gate<Mail> for Places {
    fn concerns(&self, mail: &Mail) -> bool {
        mail.key.is_multiple_of(2)
    }

    fn enter(&self, mail: &mut Mail, _: &Waker) -> Entry {
        let entry = self.entry(mail.key);
        if entry == Entry::Entered {
            self.0.lock().push(mail.key);
        }
        entry
    }
}
