//! Notes: small values that a store keeps about itself, beside states and registrations.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidegate_stages::ports::StoreError;

/// Keeps notes by name. Names are the proxy's own: short, ASCII, never an actor's.
pub trait Notes: Debug + Send + Sync + 'static {
    /// The note of this name.
    fn note(&self, name: &str) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>>;

    /// Replaces the note of this name, durably; `None` removes it.
    fn put_note(
        &self,
        name: &str,
        value: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;
}
