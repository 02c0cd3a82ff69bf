//! Notes: small values that a store keeps about itself, beside states and registrations.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidegate_stages::ports::StoreError;

/// Keeps notes by name. The proxy chooses the names: short, ASCII, never an actor's name.
pub trait Notes: Debug + Send + Sync + 'static {
    /// Returns the note with this name.
    fn note(&self, name: &str) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>>;

    /// Replaces the note with this name, durably; `None` removes the note.
    fn put_note(
        &self,
        name: &str,
        value: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;
}
