//! Bounds: how many schedules there may be.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::error::Error;
use crate::placement::overloaded;
use crate::ports::{StateStore, StoreError};
use crate::store_limit::in_time;

/// Schedules that are read together.
const PAGE: usize = 256;

/// How many schedules there may be. What a store holds beyond goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleBounds {
    /// In one system.
    pub system: usize,
    /// In all systems together.
    pub all: usize,
}

impl Default for ScheduleBounds {
    fn default() -> Self {
        Self { system: 10_000, all: 100_000 }
    }
}

/// The schedules that there are. They are counted when the first one is created, and when it is not known what became of a
/// creation.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Shared by creations and deletions; whoever counts has it alone.
    changing: RwLock<()>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    is_known: bool,
    by_system: HashMap<String, usize>,
    all: usize,
}

/// A creation or deletion. Dropped before its end is told, all schedules are counted again.
#[derive(Debug)]
pub(super) struct Changing<'a> {
    counted: &'a Counted,
    is_done: bool,
    _not_counting: RwLockReadGuard<'a, ()>,
}

impl Changing<'_> {
    /// The schedule that was counted is written.
    pub(super) fn written(mut self) {
        self.is_done = true;
    }

    /// A schedule of a system is removed.
    pub(super) fn removed(mut self, system: &str) {
        self.counted.counts.lock().remove(system);
        self.is_done = true;
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.counted.counts.lock().is_known = false;
        }
    }
}

impl Counted {
    /// Counts one more schedule of a system, which is to be written.
    ///
    /// # Errors
    /// When there are as many as there may be, or the store fails.
    pub(super) async fn create(
        &self,
        system: &str,
        bounds: ScheduleBounds,
        store: &dyn StateStore,
    ) -> Result<Changing<'_>, Error> {
        loop {
            let not_counting = self.changing.read().await;
            if let Some(added) = self.counts.lock().add(system, bounds) {
                added?;
                return Ok(Changing { counted: self, is_done: false, _not_counting: not_counting });
            }
            drop(not_counting);
            let _alone = self.changing.write().await;
            let is_known = self.counts.lock().is_known;
            if !is_known {
                let counts = count(store).await?;
                *self.counts.lock() = counts;
            }
        }
    }

    /// Before a schedule is removed.
    pub(super) async fn remove(&self) -> Changing<'_> {
        let not_counting = self.changing.read().await;
        Changing { counted: self, is_done: false, _not_counting: not_counting }
    }
}

impl Counts {
    /// `None`: it is not known how many there are.
    fn add(&mut self, system: &str, bounds: ScheduleBounds) -> Option<Result<(), Error>> {
        if !self.is_known {
            return None;
        }
        let of_system = self.by_system.get(system).copied().unwrap_or_default();
        if of_system >= bounds.system || self.all >= bounds.all {
            let (whose, found, setting, bound) = if of_system >= bounds.system {
                let whose = format!("ActorSystem {system} has");
                (whose, of_system, "TIDEGATE_MAX_SCHEDULES_PER_SYSTEM", bounds.system)
            } else {
                ("there are".to_owned(), self.all, "TIDEGATE_MAX_SCHEDULES", bounds.all)
            };
            let reason = format!(
                "{whose} {found} schedules, and there is no capacity for one more: {setting} is {bound}"
            );
            return Some(Err(overloaded("schedules", reason)));
        }
        *self.by_system.entry(system.to_owned()).or_default() += 1;
        self.all += 1;
        Some(Ok(()))
    }

    fn remove(&mut self, system: &str) {
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.by_system.get_mut(system) {
            *count -= 1;
            if *count == 0 {
                self.by_system.remove(system);
            }
        }
    }
}

/// Counts all schedules of a store.
async fn count(store: &dyn StateStore) -> Result<Counts, StoreError> {
    let (mut counts, mut after) = (Counts::default(), None);
    loop {
        let page = in_time(store.schedules(after.as_ref(), PAGE)).await?;
        for row in &page.items {
            *counts.by_system.entry(row.key.system.clone()).or_default() += 1;
            counts.all += 1;
        }
        after = page.items.last().map(|row| row.key.clone());
        if !page.more {
            counts.is_known = true;
            return Ok(counts);
        }
    }
}
