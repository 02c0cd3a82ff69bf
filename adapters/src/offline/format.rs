//! Format: the lines of an export, one JSON object each.
//!
//! ```text
//! {"tidegate_export":{"format":2,"by":"0.1.0","at":"2026-01-31T12:00:00Z","seal":null},"sum":"…"}
//! {"definition":{"system":"shop","name":"cart","host":"127.0.0.1:8090","retired":false,"raw":"…"},"sum":"…"}
//! {"spawned":{"system":"shop","name":"cart-1","parent":"cart","revision":null},"sum":"…"}
//! {"deleted":{"system":"shop","name":"cart-2","parent":"cart"},"sum":"…"}
//! {"actor":{"system":"shop","name":"cart-1","parent":"cart"},"sum":"…"}
//! {"revision":{"revision":1,"version":3,"incarnation":1,"epoch":1,"status":"ACTIVATED","at_us":1764000000123456,
//!              "tags":{},"state":{"type_url":"…","value":"…"}},"sum":"…"}
//! {"outbox":{"epoch":1,"place":0,"effect":{"epoch":1,"activation":1,"number":0},"record":"…"},"sum":"…"}
//! {"seen":{"kind":"ACTOR","system":"shop","name":"till","effect":{"epoch":1,"activation":2,"number":0}},"sum":"…"}
//! {"head":{"revision":1,"version":4,…,"state":null},"sum":"…"}
//! {"end":{"registered":3,"actors":1,"revisions":1,"outbox":1,"seen":1},"sum":"…"}
//! ```
//! The order is: the header; the registered entries; for each actor its name, its revisions ascending, the
//! effects in its outbox ascending, the newest effects that it has seen by source, and its head; the end,
//! with counts. The head is `null` for an actor that has rows of effects only. Values are base64, times are
//! microseconds since the Unix epoch, numbers are below 2^63, epochs below 2^62. `raw` is the registered `Actor` message.
//! `key_parent`, in an entry, is the parent under which the actor's state lies, where it is not the entry's
//! own. `deleted` is the key of a deleted actor of which rows of effects are left. After the actors come lines `due` and
//! `schedule`, and then `{"pause":{"system":"shop","name":"cart-1","since_us":…,"by":"127.0.0.1"}}` for each paused actor, with
//! `ended_us` for one that was resumed lately. If `seal` is set, values of states and
//! records of effects are sealed (see [`Vault`](crate::store::Vault)), and `seal` is a text sealed with the same key.
//!
//! Format 1 has neither `deleted`, `outbox` nor `seen`, and a list `outbox` in each head, which nothing ever filled.
//!
//! `sum` is the last member of a line: XXH3-64, in hex, of the line's bytes before `,"sum"`. Its seed is
//! the sum of the line before (0 for the first line), so a changed, lost or moved line is detected. A file
//! written by hand may omit all sums.

mod effects;
mod pauses;
mod registered;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_stages::actor::ActorId;
use tidegate_stages::state::{self, ActorState, Any, Tags, Timestamp};

use crate::store::{Place, SealError, Vault};
pub(super) use effects::{
    due_in, due_out, outbox_in, outbox_out, schedule_in, schedule_out, seen_in, seen_out,
};
pub(super) use pauses::{pause_in, pause_out};
pub(super) use registered::{definition_in, deleted_in, registered_out, spawned_in};

/// The format that this version writes; also the newest that it reads.
pub(super) const FORMAT: u32 = 2;
/// The text that `seal` holds, sealed.
const SEAL_TEXT: &[u8] = b"exported by tidegate";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    TidegateExport(Header),
    Definition(registered::Definition),
    Spawned(registered::Spawned),
    Deleted(registered::Deleted),
    Actor(Actor),
    Revision(Revision),
    Outbox(effects::Outbox),
    Seen(effects::Seen),
    Head(Option<Head>),
    Due(effects::Due),
    Schedule(effects::Schedule),
    Pause(pauses::Pause),
    End(Counts),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: u32,
    /// Version of Tidegate that wrote the file.
    pub(super) by: String,
    /// Start time of the export.
    pub(super) at: String,
    /// A known text, sealed like the values; `None` when values are in the clear.
    pub(super) seal: Option<Base64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Actor {
    system: String,
    name: String,
    parent: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Activated,
    Deactivated,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    type_url: String,
    value: Base64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revision {
    #[serde(rename = "revision")]
    number: u64,
    version: u64,
    incarnation: u64,
    epoch: u64,
    status: Status,
    at_us: u64,
    tags: Tags,
    state: Option<State>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    revision: u64,
    version: u64,
    incarnation: u64,
    epoch: u64,
    status: Status,
    at_us: u64,
    tags: Tags,
    state: Option<State>,
    /// Of format 1; not read.
    #[serde(default, skip_serializing)]
    outbox: Vec<Base64>,
}

/// Number of entries of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) registered: u64,
    pub(super) actors: u64,
    pub(super) revisions: u64,
    /// Format 1 has none.
    #[serde(default)]
    pub(super) outbox: u64,
    /// Format 1 has none.
    #[serde(default)]
    pub(super) seen: u64,
    /// Not written when there are none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) due: u64,
    /// Not written when there are none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) schedules: u64,
    /// Not written when there are none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) pauses: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Bytes, as base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base64(pub(super) Bytes);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.into()))
    }
}

/// Converts values to their form in a file, and back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seal<'a> {
    /// In the clear.
    Clear,
    /// Sealed with the vault's current key, opened with any of them.
    With(&'a Vault),
}

impl Seal<'_> {
    /// Returns the `seal` of the header.
    pub(super) fn text(self) -> Option<Base64> {
        match self {
            Seal::Clear => None,
            Seal::With(vault) => vault.seal(SEAL_TEXT, Place::CHECK).map(Base64),
        }
    }

    fn out(self, value: Bytes, place: Place<'_>) -> Base64 {
        match self {
            Seal::Clear => Base64(value),
            Seal::With(vault) => Base64(vault.seal(&value, place).unwrap_or(value)),
        }
    }

    fn open(self, value: Base64, place: Place<'_>) -> Result<Bytes, String> {
        match self {
            Seal::Clear => Ok(value.0),
            Seal::With(vault) => vault.open(&value.0, place).map_err(|error| error.to_string()),
        }
    }
}

impl Header {
    /// Checks that the keys open the file.
    pub(super) fn check_seal(&self, vault: &Vault) -> Result<(), SealError> {
        match &self.seal {
            Some(seal) => vault.open(&seal.0, Place::CHECK).map(drop),
            None => Ok(()),
        }
    }

    /// Returns how the file's values are opened.
    pub(super) fn seal<'a>(&self, vault: &'a Vault) -> Seal<'a> {
        if self.seal.is_some() { Seal::With(vault) } else { Seal::Clear }
    }
}

pub(super) fn actor_out(id: &ActorId) -> Line {
    let ActorId { name, system, parent } = id.clone();
    Line::Actor(Actor { system, name, parent })
}

pub(super) fn actor_in(line: Actor) -> ActorId {
    ActorId { name: line.name, system: line.system, parent: line.parent }
}

fn status_out(status: state::Status) -> Status {
    match status {
        state::Status::Activated => Status::Activated,
        state::Status::Deactivated => Status::Deactivated,
        state::Status::Unknown => Status::Unknown,
    }
}

fn status_in(status: Status) -> state::Status {
    match status {
        Status::Activated => state::Status::Activated,
        Status::Deactivated => state::Status::Deactivated,
        Status::Unknown => state::Status::Unknown,
    }
}

fn state_out(state: Option<Any>, place: Place<'_>, seal: Seal<'_>) -> Option<State> {
    state.map(|Any { type_url, value }| State { type_url, value: seal.out(value, place) })
}

fn content_in(
    tags: Tags,
    state: Option<State>,
    place: Place<'_>,
    seal: Seal<'_>,
) -> Result<ActorState, String> {
    let opened = |State { type_url, value }| {
        Ok::<_, String>(Any { type_url, value: seal.open(value, place)? })
    };
    Ok(ActorState { tags, state: state.map(opened).transpose()? })
}

/// `actor` names the actor whose line it is, see [`named`](crate::store::named), here and below.
pub(super) fn revision_out(actor: &[u8], revision: state::Revision, seal: Seal<'_>) -> Line {
    let place = Place::revision(actor, revision.revision);
    Line::Revision(Revision {
        number: revision.revision,
        version: revision.version,
        incarnation: revision.incarnation,
        epoch: revision.epoch,
        status: status_out(revision.status),
        at_us: revision.at.0,
        tags: revision.content.tags,
        state: state_out(revision.content.state, place, seal),
    })
}

pub(super) fn revision_in(
    actor: &[u8],
    line: Revision,
    seal: Seal<'_>,
) -> Result<state::Revision, String> {
    let place = Place::revision(actor, line.number);
    Ok(state::Revision {
        revision: line.number,
        version: line.version,
        incarnation: line.incarnation,
        epoch: line.epoch,
        status: status_in(line.status),
        at: Timestamp(line.at_us),
        content: content_in(line.tags, line.state, place, seal)?,
    })
}

pub(super) fn head_out(actor: &[u8], head: Option<state::Head>, seal: Seal<'_>) -> Line {
    Line::Head(head.map(|head| Head {
        revision: head.revision,
        version: head.version,
        incarnation: head.incarnation,
        epoch: head.epoch,
        status: status_out(head.status),
        at_us: head.at.0,
        tags: head.content.tags,
        state: state_out(head.content.state, Place::head(actor, head.version), seal),
        outbox: Vec::new(),
    }))
}

pub(super) fn head_in(actor: &[u8], line: Head, seal: Seal<'_>) -> Result<state::Head, String> {
    let place = Place::head(actor, line.version);
    Ok(state::Head {
        version: line.version,
        revision: line.revision,
        incarnation: line.incarnation,
        epoch: line.epoch,
        status: status_in(line.status),
        at: Timestamp(line.at_us),
        content: content_in(line.tags, line.state, place, seal)?,
    })
}
