//! Registry: definitions and spawned ids, one partition per system.

use std::collections::BTreeMap;

use bytes::Bytes;
use scylla::response::PagingState;
use tidegate_stages::ports::{Registered, RegistryChange, StoreError};

use super::database::{Changes, Rows};
use super::errors::damage;
use super::shared::Shared;
use crate::store::records;

/// Entries in one page.
const PAGE: usize = 512;

impl Shared {
    pub(super) async fn registered(&self) -> Result<Vec<Registered>, StoreError> {
        let (mut all, mut from) = (Vec::new(), PagingState::start());
        loop {
            let cql = &self.database.cql;
            let page = self.database.read_page::<(Option<Bytes>,)>(&cql.registered, (), PAGE, from);
            let Rows { rows, next } = page.await?;
            for (record,) in rows {
                let record = record.unwrap_or_default();
                let entry = records::decode_registered(&record, self.decode);
                all.push(entry.map_err(|error| damage("a registered entry", error))?);
            }
            match next {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }

    /// Writes changes: of one system as one write; of several systems, all or none are applied.
    pub(super) async fn register(&self, changes: Vec<RegistryChange>) -> Result<(), StoreError> {
        self.fence.check_own()?;
        // Keeps the last change of each name: changes in one write have no order.
        let mut last = BTreeMap::new();
        for change in changes {
            let (id, record) = match &change {
                RegistryChange::Put(entry) => (entry.id(), Some(records::encode_registered(entry))),
                RegistryChange::Remove(id) => (id.as_ref(), None),
            };
            last.insert((id.system.clone(), id.name.clone()), record);
        }
        let mut systems: Vec<_> = last.keys().map(|(system, _)| system.clone()).collect();
        systems.dedup();
        let bytes = last.iter().map(|((system, name), record)| {
            system.len() + name.len() + record.as_ref().map_or(0, Vec::len) + 64
        });
        self.check_size(bytes.sum())?;
        let mut changes = Changes::default();
        for ((system, name), record) in last {
            match record {
                Some(record) => {
                    changes.add(&self.database.cql.put_registered, (system, name, record));
                }
                None => changes.add(&self.database.cql.drop_registered, (system, name)),
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let (_turn, stamp) = (self.turn().await?, self.stamp().await?);
        if systems.len() == 1 {
            self.database.commit(changes, stamp).await?;
        } else {
            self.database.commit_all(changes, stamp).await?;
        }
        self.look().await?;
        self.fence.check_own()
    }
}
