//! Store: where states and registrations are kept.

mod access;
mod checks;
mod embedded;
mod cql;
mod notes;
mod records;
mod vault;

pub use access::Access;
pub use checks::{Checked, KeyError, check, note_current, only_current};
pub use cql::{Consistency, CqlOpenError, CqlOptions, CqlStore, Credentials, Replication, Tls};
pub use embedded::{Damage, EmbeddedStore, FORMAT, FreeSpace, OpenError, Options, SYNCED};
pub use notes::Notes;
pub use records::DecodeDefinition;
pub use vault::{Key, SEAL_BYTES, SealError, Vault};
