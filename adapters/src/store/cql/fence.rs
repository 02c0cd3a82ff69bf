//! Fence: knows the newest owner, and whether an acknowledged write may be reported.
//!
//! An owner claims its epoch with one light-weight transaction per start. After a write is acknowledged the
//! newest epoch is read; the result is returned only if this epoch is still the writer's. One read serves
//! all writes that were acknowledged before the read began: see `docs/decisions/010-fencing-in-cql.md`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use scylla::DeserializeRow;
use scylla::statement::Consistency as Level;
use scylla::statement::SerialConsistency;
use tidegate_stages::ports::StoreError;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::database::Database;
use super::heartbeat::address_of;
use super::rows::signed;
use crate::store::ownership::{Owner, OwnerSeen, OwnerStatus, Ownership, OwnershipCheck};

/// Row of `meta` that holds the newest epoch, and beside it the ceiling of write timestamps.
const EPOCH: &str = "epoch";
/// Row of `meta` in which earlier versions kept the ceiling.
const FORMER_CLOCK: &str = "clock";
/// How often a claim, or a reservation, is tried while others do so too.
const CLAIMS: u32 = 16;

/// The newest epoch, as far as known.
#[derive(Debug)]
pub(super) struct Fence {
    serial: SerialConsistency,
    detector: Arc<dyn OwnershipCheck>,
    /// The newest epoch seen.
    newest: AtomicU64,
    /// The epoch that this store claimed last; 0 when none.
    own: AtomicU64,
    ownership: Ownership,
    looking: Mutex<Looking>,
}

#[derive(Debug, Default)]
struct Looking {
    is_running: bool,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Fence {
    pub(super) fn new(
        serial: SerialConsistency,
        newest: u64,
        detector: Arc<dyn OwnershipCheck>,
    ) -> Self {
        Self {
            serial,
            detector,
            newest: AtomicU64::new(newest),
            own: AtomicU64::new(0),
            ownership: Ownership::default(),
            looking: Mutex::default(),
        }
    }

    /// Refuses a request of an older owner.
    ///
    /// # Errors
    /// [`StoreError::Fenced`], as far as is known.
    pub(super) fn check(&self, epoch: u64) -> Result<(), StoreError> {
        let stored = self.newest.load(Ordering::SeqCst);
        let seen = OwnerSeen { status: OwnerStatus::Claimed, stored, own: epoch };
        if self.detector.may_go_on(seen) { Ok(()) } else { Err(StoreError::Fenced(stored)) }
    }

    /// Whether this store may take the place of an owner that says that it lives.
    pub(super) fn may_replace(&self, living: &Owner) -> bool {
        let (status, stored) = (OwnerStatus::Living, living.epoch);
        self.detector.may_go_on(OwnerSeen { status, stored, own: self.own() })
    }

    /// Whether this store is still the owner.
    pub(super) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The epoch that this store claimed last; 0 when none.
    pub(super) fn own(&self) -> u64 {
        self.own.load(Ordering::SeqCst)
    }

    /// Whether another store owns the database now.
    pub(super) fn is_fenced(&self) -> bool {
        self.check_own().is_err()
    }

    /// As [`check`](Self::check), with the epoch of this store, for requests without an epoch of their own.
    pub(super) fn check_own(&self) -> Result<(), StoreError> {
        match self.own() {
            0 => Ok(()),
            own => self.check(own),
        }
    }

    /// Notes the newest epoch. When it is that of a later owner, also where that owner is.
    async fn note(&self, database: &Database, newest: u64) {
        self.newest.fetch_max(newest, Ordering::SeqCst);
        if self.is_fenced() && self.ownership.later().is_none() {
            let owner = Owner { epoch: newest, address: address_of(database, newest).await };
            error!(own = self.own(), %owner, "a later owner has claimed the database: nothing is written any more");
            self.ownership.lose(owner);
        }
    }

    /// Waits for a read of the newest epoch that begins after this call.
    pub(super) async fn look(
        self: &Arc<Self>,
        database: &Arc<Database>,
        tasks: &TaskTracker,
    ) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let begin = {
            let mut looking = self.looking.lock();
            looking.waiting.push(answer);
            !std::mem::replace(&mut looking.is_running, true)
        };
        if begin {
            tasks.spawn(self.clone().look_for_all(database.clone()));
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".into())))
    }

    async fn look_for_all(self: Arc<Self>, database: Arc<Database>) {
        loop {
            let waiting = {
                let mut looking = self.looking.lock();
                if looking.waiting.is_empty() {
                    looking.is_running = false;
                    return;
                }
                std::mem::take(&mut looking.waiting)
            };
            let found = read(&database).await;
            if let Ok(newest) = found {
                self.note(&database, newest).await;
            }
            let found = found.map(drop);
            for waiting in waiting {
                // A waiter that is gone needs no result.
                waiting.send(found.clone()).unwrap_or_default();
            }
        }
    }

    /// Claims an epoch higher than every earlier one and than `floor`.
    pub(super) async fn claim(&self, database: &Database, floor: u64) -> Result<u64, StoreError> {
        let floor = signed(floor)?;
        for _ in 0..CLAIMS {
            let newest = self.last(database).await?.epoch;
            let next = newest.unwrap_or(0).max(floor).saturating_add(1);
            if database.transact(&database.cql.next_epoch, (next, EPOCH, newest)).await? {
                let epoch = u64::try_from(next).unwrap_or(0);
                self.own.fetch_max(epoch, Ordering::SeqCst);
                self.newest.fetch_max(epoch, Ordering::SeqCst);
                return Ok(epoch);
            }
        }
        Err(StoreError::Unavailable(format!("others claimed an epoch {CLAIMS} times meanwhile")))
    }

    /// Returns the ceiling of all write timestamps so far; 0 when there is none.
    pub(super) async fn ceiling(&self, database: &Database) -> Result<i64, StoreError> {
        Ok(former_ceiling(database).await?.max(self.last(database).await?.ceiling()))
    }

    /// Reserves write timestamps from `from` on, or above the stored ceiling if that is higher.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another store has claimed an epoch after this one.
    pub(super) async fn reserve(
        &self,
        database: &Database,
        from: i64,
        count: i64,
    ) -> Result<Range<i64>, StoreError> {
        for _ in 0..CLAIMS {
            let last = self.last(database).await?;
            let newest = last.epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0);
            self.note(database, newest).await;
            self.check_own()?;
            let start = from.max(last.ceiling().saturating_add(1));
            let end = start.saturating_add(count);
            let values = (end.to_be_bytes(), EPOCH, last.epoch, last.value);
            if database.transact(&database.cql.next_ceiling, values).await? {
                return Ok(start..end);
            }
        }
        Err(StoreError::Unavailable(format!("others raised the clock {CLAIMS} times meanwhile")))
    }

    /// Reads epoch and ceiling, with all transactions that others have begun.
    async fn last(&self, database: &Database) -> Result<Last, StoreError> {
        let mut statement = database.cql.epoch.clone();
        statement.set_consistency(match self.serial {
            SerialConsistency::Serial => Level::Serial,
            SerialConsistency::LocalSerial => Level::LocalSerial,
        });
        Ok(database.read_one(&statement, (EPOCH,)).await?.unwrap_or_default())
    }
}

/// The row that all claims and reservations change.
#[derive(Debug, Default, DeserializeRow)]
struct Last {
    /// The newest epoch.
    #[scylla(rename = "number")]
    epoch: Option<i64>,
    /// The ceiling of write timestamps, big-endian.
    value: Option<Bytes>,
}

impl Last {
    fn ceiling(&self) -> i64 {
        let bytes = self.value.as_deref().and_then(|value| value.try_into().ok());
        bytes.map_or(0, i64::from_be_bytes)
    }
}

/// Returns the newest epoch; 0 when there is none.
pub(super) async fn read(database: &Database) -> Result<u64, StoreError> {
    let row = database.read_one::<(Option<i64>,)>(&database.cql.number, (EPOCH,)).await?;
    Ok(row.and_then(|(number,)| number).and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

/// Returns the ceiling that an earlier version left; 0 when there is none.
pub(super) async fn former_ceiling(database: &Database) -> Result<i64, StoreError> {
    let row = database.read_one::<(Option<i64>,)>(&database.cql.number, (FORMER_CLOCK,)).await?;
    Ok(row.and_then(|(number,)| number).unwrap_or(0))
}
