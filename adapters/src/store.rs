//! Store: where states and registrations are kept.

mod checks;
mod embedded;
mod cql;
mod notes;
mod records;
mod vault;

pub use checks::{Checked, KeyError, check, only_current};
pub use cql::{Consistency, CqlOpenError, CqlOptions, CqlStore, Credentials, Replication, Tls};
pub use embedded::{Damage, EmbeddedStore, FORMAT, FreeSpace, OpenError, Options, SYNCED};
pub use notes::Notes;
pub use records::DecodeDefinition;
pub use vault::{Key, SEAL_BYTES, SealError, Vault};
