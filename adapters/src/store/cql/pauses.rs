//! Pauses: which actors are paused, in one partition.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use tidegate_stages::actor::ActorRef;
use tidegate_stages::ports::{Pause, PauseStore, StoreError};

use super::CqlStore;
use super::errors::damage;
use super::rows::signed;
use super::shared::Shared;
use crate::store::records;

/// Kind of a paused actor.
const ACTOR: i8 = 0;
/// Rows that are read together.
const ROWS: i32 = 1_024;
/// Concurrent writes of one request.
const ABREAST: usize = 16;

impl PauseStore for CqlStore {
    fn pauses(&self) -> BoxFuture<'static, Result<Vec<Pause>, StoreError>> {
        self.read(async move |shared| shared.pauses().await)
    }

    fn put_pauses(&self, pauses: Vec<Pause>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.read(async move |shared| shared.put_pauses(pauses).await)
    }

    fn remove_pauses(&self, actors: Vec<ActorRef>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.read(async move |shared| shared.remove_pauses(actors).await)
    }
}

impl Shared {
    async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let mut pauses: Vec<Pause> = Vec::new();
        loop {
            let last = pauses.last().map(|pause| pause.actor.clone());
            let last = last.as_ref().map_or(("", ""), |last| (last.system(), last.name()));
            let values = (ACTOR, last.0, last.1, ROWS);
            let found: Vec<(String, String, Option<Bytes>)> =
                self.database.read(&self.database.cql.pauses_after, values).await?;
            let is_last = found.len() < ROWS.unsigned_abs() as usize;
            for (system, name, record) in found {
                let actor = ActorRef::new(&system, &name);
                let pause = records::decode_pause(actor, &record.unwrap_or_default());
                pauses.push(pause.map_err(|error| damage("a pause", error))?);
            }
            if is_last {
                return Ok(pauses);
            }
        }
    }

    async fn put_pauses(&self, pauses: Vec<Pause>) -> Result<(), StoreError> {
        self.fence.check_own()?;
        let _turn = self.turn().await?;
        let rows = pauses.into_iter().map(async |pause| {
            let (at, record) = (signed(pause.since.0)?, records::encode_pause(&pause));
            let values = (ACTOR, pause.actor.system(), pause.actor.name(), at, record);
            self.database.write(&self.database.cql.put_pause, values, self.stamp().await?).await
        });
        iter(rows).buffer_unordered(ABREAST).try_collect::<()>().await?;
        self.look().await?;
        self.fence.check_own()
    }

    async fn remove_pauses(&self, actors: Vec<ActorRef>) -> Result<(), StoreError> {
        self.fence.check_own()?;
        let _turn = self.turn().await?;
        let removals = actors.into_iter().map(async |actor| {
            let values = (ACTOR, actor.system(), actor.name());
            self.database.write(&self.database.cql.drop_pause, values, self.stamp().await?).await
        });
        iter(removals).buffer_unordered(ABREAST).try_collect::<()>().await?;
        self.look().await?;
        self.fence.check_own()
    }
}
