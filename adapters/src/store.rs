//! Store: where states and registrations are kept.

mod embedded;
mod cql;
mod records;
mod vault;

pub use cql::{Consistency, CqlOpenError, CqlOptions, CqlStore, Replication, Tls};
pub use embedded::{Damage, EmbeddedStore, FORMAT, FreeSpace, OpenError, Options, SYNCED};
pub use records::DecodeDefinition;
pub use vault::{Key, SEAL_BYTES, SealError, Vault};
