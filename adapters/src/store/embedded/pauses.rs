//! Pauses: which actors are paused.

use futures_util::future::BoxFuture;
use tidegate_stages::actor::ActorRef;
use tidegate_stages::ports::{Pause, PauseStore, StoreError};

use super::damage::ReadError;
use super::engine::{Engine, Op, Space};
use super::reader::malformed;
use super::{EmbeddedStore, keys};
use crate::store::records;

impl PauseStore for EmbeddedStore {
    fn pauses(&self) -> BoxFuture<'static, Result<Vec<Pause>, StoreError>> {
        self.read(read)
    }

    fn put_pauses(&self, pauses: Vec<Pause>) -> BoxFuture<'static, Result<(), StoreError>> {
        let put = |pause: &Pause| {
            let key = keys::paused(&pause.actor)?;
            Ok(Op::put(Space::Current, key, records::encode_pause(pause)))
        };
        self.apply_all(pauses.iter().map(put).collect())
    }

    fn remove_pauses(&self, actors: Vec<ActorRef>) -> BoxFuture<'static, Result<(), StoreError>> {
        let remove = |actor| Ok(Op::remove(Space::Current, keys::paused(actor)?));
        self.apply_all(actors.iter().map(remove).collect())
    }
}

fn read(engine: &Engine) -> Result<Vec<Pause>, ReadError> {
    let rows = engine.current.prefix([keys::PAUSE]).map(|entry| {
        let (key, value) = entry.into_inner().map_err(|error| engine.damage(&error))?;
        // Of a kind that this version does not know: left to a later one.
        let Some(actor) = keys::parse_paused(&key)
            .ok_or_else(|| malformed(engine, "the key of a pause", "its parts"))?
        else {
            return Ok(None);
        };
        let pause = records::decode_pause(actor, &value);
        pause.map(Some).map_err(|error| malformed(engine, "a pause", &error).into())
    });
    rows.filter_map(Result::transpose).collect()
}
