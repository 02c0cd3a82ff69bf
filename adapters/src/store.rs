//! Store: where states and registrations are kept.

mod embedded;
mod records;

pub use embedded::{Damage, EmbeddedStore, FORMAT, FreeSpace, OpenError, Options, SYNCED};
pub use records::DecodeDefinition;
