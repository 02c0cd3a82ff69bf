//! Work: where calls for a later time are handed over to the table of due work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::actor::{ActorRef, MAX_NAME_BYTES, check_name};
use crate::call::Admitted;
use crate::due::record::Record;
use crate::due::{DueEntry, DueKey};
use crate::error::Error;
use crate::invocation::{Invocation, Payload, SCHEDULE_ID};
use crate::outbox::{EffectId, EffectSource, SourceKind};
use crate::ports::{Clock, StateStore};
use crate::state::Timestamp;
use crate::store_limit::in_time;

/// New entries that wait for the task; more are read from the store.
const NEW: usize = 1_024;

/// What was stored and the task has not seen.
#[derive(Debug, Default)]
pub(super) struct New {
    pub(super) entries: Vec<DueEntry>,
    /// The first one that did not fit.
    pub(super) first_left: Option<DueKey>,
}

/// The table of due work; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DueWork(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) new: Mutex<New>,
    pub(super) added: Notify,
    epoch: u64,
    next: AtomicU64,
    /// Whether new entries are taken; those in the store run in any case.
    takes_new: bool,
}

impl DueWork {
    /// The table of this store, whose owner has this epoch.
    pub(crate) fn new(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        epoch: u64,
        takes_new: bool,
    ) -> Self {
        let (new, added, next) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self(Arc::new(Inner { store, clock, new, added, epoch, next, takes_new }))
    }

    /// Has the task look again at what it holds back: an actor was resumed.
    pub(crate) fn look_again(&self) {
        self.0.added.notify_one();
    }

    /// Whether a call is one for the table: for a later time than now. Where new entries are not taken no call is, and the
    /// caller stage refuses it.
    pub(crate) fn is_later(&self, invocation: &Invocation) -> bool {
        // Most calls name no time: for these no clock is read.
        let names_time = invocation.scheduled_to > 0;
        self.0.takes_new && names_time && invocation.is_due_after(self.0.clock.now())
    }

    /// Keeps an admitted call until its time, durably. Calls are separate ones unless they have the same time and the same
    /// [`SCHEDULE_ID`] in one system: then the last one counts.
    ///
    /// # Errors
    /// When its id is no name, or the store fails.
    pub(crate) async fn schedule(&self, admitted: Admitted) -> Result<Payload, Error> {
        let Admitted { invocation, permit: _held_until_stored, .. } = admitted;
        let name = if let Some(id) = invocation.metadata.get(SCHEDULE_ID) {
            let name = format!("id/{id}");
            check_name(&name)
                .map_err(|error| Error::Invalid(format!("metadata {SCHEDULE_ID} {error}")))?;
            name
        } else {
            let number = self.0.next.fetch_add(1, Ordering::Relaxed);
            format!("call/{}.{number}", self.0.epoch)
        };
        self.put(name, *invocation, None).await?;
        Ok(Payload::Unset)
    }

    /// Hands a side effect for a later time over. Its source and number are its id: handing it over again changes nothing.
    /// The source may forget it when this succeeds.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn hand_over(
        &self,
        source: &ActorRef,
        id: EffectId,
        invocation: Invocation,
    ) -> Result<(), Error> {
        let EffectId { epoch, activation, number } = id;
        let mut name = format!("effect/{epoch}.{activation}.{number}/{}", source.name());
        if name.len() > MAX_NAME_BYTES {
            // The hash in place of the end keeps sources apart.
            let hash = xxhash_rust::xxh3::xxh3_128(source.name().as_bytes());
            let mut end = MAX_NAME_BYTES - 33;
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            name.truncate(end);
            name = format!("{name}/{hash:032x}");
        }
        let effect_of = (source.system().to_owned(), source.name().to_owned());
        self.put(name, invocation, Some(effect_of)).await
    }

    async fn put(
        &self,
        name: String,
        mut invocation: Invocation,
        effect_of: Option<(String, String)>,
    ) -> Result<(), Error> {
        // From here on its time is in the key: at that time it is a call for now.
        let at = std::mem::take(&mut invocation.scheduled_to);
        let at = Timestamp(u64::try_from(at).unwrap_or(0).saturating_mul(1000));
        // Numbers of a store are below 2^63.
        let at = at.min(Timestamp(u64::MAX / 2));
        let system = invocation.actor.system.clone();
        let source = EffectSource { kind: SourceKind::Due, system, name };
        let record = Record { invocation, effect_of }.encode();
        let entry = DueEntry { key: DueKey { at, source: source.into() }, record };
        in_time(self.0.store.put_due(vec![entry.clone()])).await?;
        let mut new = self.0.new.lock();
        if new.entries.len() < NEW {
            new.entries.push(entry);
        } else if new.first_left.as_ref().is_none_or(|first| entry.key < *first) {
            new.first_left = Some(entry.key);
        }
        drop(new);
        self.0.added.notify_one();
        Ok(())
    }
}
