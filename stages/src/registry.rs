//! Registry: who is registered, and what is in memory of each.

pub(crate) mod entry;
pub(crate) mod directory;
pub(crate) mod registration;
