//! Rows: heads and revisions as columns; states are sealed before a write and opened after a read.

use std::fmt::Display;

use bytes::Bytes;
use scylla::{DeserializeRow, SerializeRow};
use tidegate_stages::actor::{ActorId, MAX_NAME_BYTES};
use tidegate_stages::ports::StoreError;
use tidegate_stages::state::{ActorState, Any, Head, Revision, Status, Tags, Timestamp};

use super::errors::damage;
use crate::store::place::{Place, named_by};
use crate::store::vault::{SealError, Vault};

/// Kinds of rows in `heads`.
pub(super) const HEAD: i8 = 0;
/// The outbox of schema 1, which is not read any more.
pub(super) const FORMER_OUTBOX: i8 = 1;
pub(super) const BUCKET: i8 = 2;
pub(super) const BUCKET_OF: i8 = 3;
pub(super) const NEWEST: i8 = 4;
pub(super) const OUTBOX: i8 = 5;
pub(super) const SEEN: i8 = 6;
pub(super) const OWNER: i8 = 7;

/// Format of rows, in the column `format`.
const FORMAT: i8 = 1;
/// Bytes of a row beside names and content; a generous estimate.
const ROW_BYTES: usize = 512;

/// An actor's name in the tables.
#[derive(Debug, Clone, Copy, SerializeRow)]
pub(super) struct Key<'a> {
    pub(super) system: &'a str,
    pub(super) actor: &'a str,
    pub(super) parent: &'a str,
}

impl<'a> Key<'a> {
    /// Builds the key of an actor.
    ///
    /// # Errors
    /// When a name is longer than any accepted name.
    pub(super) fn of(id: &'a ActorId) -> Result<Self, StoreError> {
        for part in [&id.system, &id.name, &id.parent] {
            if part.len() > MAX_NAME_BYTES {
                let text = format!("a name of {} bytes, at most {MAX_NAME_BYTES} fit", part.len());
                return Err(StoreError::Unavailable(text));
            }
        }
        Ok(Self { system: &id.system, actor: &id.name, parent: &id.parent })
    }

    /// Returns the key as a sealed value is bound to it.
    pub(super) fn named(&self) -> Vec<u8> {
        named_by([self.system, self.actor, self.parent])
    }

    pub(super) fn len(&self) -> usize {
        self.system.len() + self.actor.len() + self.parent.len()
    }
}

/// Converts a number or time to the database's type.
///
/// # Errors
/// When the value is not below 2^63.
pub(super) fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::TooLarge(format!("the number {number}")))
}

/// Converts the bound of a search; a bound above every stored number becomes the largest of them.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| damage("a row", format!("a negative number, {number}")))
}

/// The common part of a head and the revision made from it, ready to be written.
#[derive(Debug, SerializeRow)]
pub(super) struct Content {
    format: i8,
    pub(super) version: i64,
    pub(super) revision: i64,
    incarnation: i64,
    status: i8,
    pub(super) at: i64,
    tags: Tags,
    type_url: Option<String>,
    value: Option<Bytes>,
    sealed: bool,
}

impl Content {
    /// Returns about how many bytes the content takes in one write.
    pub(super) fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        let state = self.type_url.as_ref().map_or(0, String::len)
            + self.value.as_ref().map_or(0, Bytes::len);
        ROW_BYTES + tags + state
    }

    /// The content of a head; `actor` is [named](Key::named), here and below.
    pub(super) fn of_head(actor: &[u8], head: Head, vault: &Vault) -> Result<Self, StoreError> {
        let Head { version, revision, incarnation, epoch, status, at, content } = head;
        let revision = Revision { revision, version, incarnation, epoch, status, at, content };
        Self::sealed(Place::head(actor, version), revision, vault)
    }

    pub(super) fn of(actor: &[u8], revision: Revision, vault: &Vault) -> Result<Self, StoreError> {
        Self::sealed(Place::revision(actor, revision.revision), revision, vault)
    }

    fn sealed(place: Place<'_>, revision: Revision, vault: &Vault) -> Result<Self, StoreError> {
        let ActorState { tags, state } = revision.content;
        let (type_url, value) = state.map(|Any { type_url, value }| (type_url, value)).unzip();
        let sealed_value = value.as_ref().and_then(|value| vault.seal(value, place));
        Ok(Self {
            format: FORMAT,
            version: signed(revision.version)?,
            revision: signed(revision.revision)?,
            incarnation: signed(revision.incarnation)?,
            status: match revision.status {
                Status::Activated => 1,
                Status::Deactivated => 2,
                Status::Unknown => 0,
            },
            at: signed(revision.at.0)?,
            tags,
            type_url,
            sealed: sealed_value.is_some(),
            value: sealed_value.or(value),
        })
    }
}

/// A head, or the newest revision, as a row of `heads`.
#[derive(Debug, SerializeRow)]
pub(super) struct HeadOut<'a> {
    #[scylla(flatten)]
    pub(super) key: Key<'a>,
    pub(super) kind: i8,
    pub(super) epoch: i64,
    pub(super) place: i64,
    pub(super) owner: i64,
    #[scylla(flatten)]
    pub(super) content: &'a Content,
}

/// A revision as a row of `revisions`.
#[derive(Debug, SerializeRow)]
pub(super) struct RevisionOut<'a> {
    #[scylla(flatten)]
    pub(super) key: Key<'a>,
    pub(super) bucket: i64,
    pub(super) epoch: i64,
    #[scylla(flatten)]
    pub(super) content: &'a Content,
    #[scylla(rename = "[ttl]")]
    pub(super) ttl: i32,
}

/// A head; of an owner's row, only kind and epoch are set.
#[derive(Debug, DeserializeRow)]
pub(super) struct HeadIn {
    #[scylla(default_when_null)]
    pub(super) kind: i8,
    pub(super) epoch: Option<i64>,
    /// Rows of the outbox of schema 1.
    #[scylla(default_when_null)]
    pub(super) outbox: i32,
    #[scylla(default_when_null)]
    format: i8,
    #[scylla(default_when_null)]
    version: i64,
    #[scylla(default_when_null)]
    revision: i64,
    #[scylla(default_when_null)]
    incarnation: i64,
    #[scylla(default_when_null)]
    status: i8,
    #[scylla(default_when_null)]
    at: i64,
    #[scylla(default_when_null)]
    tags: Tags,
    type_url: Option<String>,
    value: Option<Bytes>,
    #[scylla(default_when_null)]
    sealed: bool,
}

#[derive(Debug, DeserializeRow)]
pub(super) struct RevisionIn {
    epoch: i64,
    format: i8,
    version: i64,
    revision: i64,
    incarnation: i64,
    status: i8,
    at: i64,
    #[scylla(default_when_null)]
    tags: Tags,
    type_url: Option<String>,
    value: Option<Bytes>,
    #[scylla(default_when_null)]
    sealed: bool,
}

impl From<HeadIn> for RevisionIn {
    fn from(head: HeadIn) -> Self {
        Self {
            epoch: head.epoch.unwrap_or_default(),
            format: head.format,
            version: head.version,
            revision: head.revision,
            incarnation: head.incarnation,
            status: head.status,
            at: head.at,
            tags: head.tags,
            type_url: head.type_url,
            value: head.value,
            sealed: head.sealed,
        }
    }
}

impl RevisionIn {
    /// Opens the revision's state.
    pub(super) fn open(self, actor: &[u8], vault: &Vault) -> Result<Revision, StoreError> {
        let number = unsigned(self.revision)?;
        self.open_in(Place::revision(actor, number), vault)
    }

    fn open_in(self, place: Place<'_>, vault: &Vault) -> Result<Revision, StoreError> {
        if self.format != FORMAT {
            let text = format!("it has format {}, known is {FORMAT}", self.format);
            return Err(damage("a row", text));
        }
        let value = self.value.unwrap_or_default();
        let state = match self.type_url {
            None => None,
            Some(type_url) => {
                let value = open(value, self.sealed, place, vault, "a state")?;
                Some(Any { type_url, value })
            }
        };
        Ok(Revision {
            revision: unsigned(self.revision)?,
            version: unsigned(self.version)?,
            incarnation: unsigned(self.incarnation)?,
            epoch: unsigned(self.epoch)?,
            status: match self.status {
                1 => Status::Activated,
                2 => Status::Deactivated,
                _ => Status::Unknown,
            },
            at: Timestamp(unsigned(self.at)?),
            content: ActorState { tags: self.tags, state },
        })
    }

    /// Returns the epoch under which the revision was written.
    pub(super) fn owner(&self) -> i64 {
        self.epoch
    }

    pub(super) fn place(&self) -> (i64, i64) {
        (self.at, self.revision)
    }
}

/// Builds a head from its row.
pub(super) fn head(actor: &[u8], row: HeadIn, vault: &Vault) -> Result<Head, StoreError> {
    let place = Place::head(actor, unsigned(row.version)?);
    let revision = RevisionIn::from(row).open_in(place, vault)?;
    Ok(Head {
        version: revision.version,
        revision: revision.revision,
        incarnation: revision.incarnation,
        epoch: revision.epoch,
        status: revision.status,
        at: revision.at,
        content: revision.content,
    })
}

/// Opens a value if it is sealed; the vault counts one that is not.
pub(super) fn open(
    value: Bytes,
    sealed: bool,
    place: Place<'_>,
    vault: &Vault,
    what: impl Display,
) -> Result<Bytes, StoreError> {
    if !sealed {
        return Ok(vault.pass(value));
    }
    let opened = vault.open(&value, place);
    opened.map_err(|error: SealError| StoreError::Sealed(format!("{what}: {error}")))
}
