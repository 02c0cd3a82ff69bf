//! Store: where states and registrations are kept.

mod access;
mod checks;
mod embedded;
mod cql_options;
#[cfg(feature = "scylla")]
mod cql;
mod notes;
mod ownership;
mod place;
mod records;
mod vault;

pub use access::Access;
pub use checks::{Checked, KeyError, check, note_current, only_current};
#[cfg(feature = "scylla")]
pub use cql::{CqlOpenError, CqlStore};
pub use cql_options::{Consistency, CqlOptions, Credentials, Replication, Tls};
pub use embedded::{
    BACKUP_PAGE_BYTES, BackupError, BackupPage, Begun, Damage, EmbeddedStore, Examined, FORMAT,
    FreeSpace, OpenError, Options, SYNCED, Totals, check_space, examine, restore_backup,
    write_backup,
};
pub use notes::Notes;
pub use ownership::{NewestEpoch, Owner, OwnerSeen, OwnerStatus, Ownership, OwnershipCheck};
pub use place::{Place, due_source, named, schedule_named};
pub use records::DecodeDefinition;
pub use vault::{Key, Layout, SEAL_BYTES, SealError, Vault};
