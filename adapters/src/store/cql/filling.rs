//! Filling: the minutes of due work to which entries are on their way.

use std::collections::HashMap;

use parking_lot::Mutex;

/// The minutes to which entries are on their way: how many writes each has.
#[derive(Debug, Default)]
pub(super) struct Filling(Mutex<HashMap<i64, usize>>);

/// A write to some minutes; over when it is dropped.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    filling: &'a Filling,
    minutes: Vec<i64>,
}

impl Filling {
    /// Notes a write to minutes. Its timestamps are later than those of whoever asked before.
    pub(super) fn begin(&self, minutes: impl Iterator<Item = i64>) -> Writing<'_> {
        let minutes: Vec<_> = minutes.collect();
        let mut filling = self.0.lock();
        for minute in &minutes {
            *filling.entry(*minute).or_default() += 1;
        }
        Writing { filling: self, minutes }
    }

    /// Whether a write to a minute is on its way.
    pub(super) fn is_filling(&self, minute: i64) -> bool {
        self.0.lock().contains_key(&minute)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut filling = self.filling.0.lock();
        for minute in &self.minutes {
            if let Some(writes) = filling.get_mut(minute) {
                *writes -= 1;
                if *writes == 0 {
                    filling.remove(minute);
                }
            }
        }
    }
}
