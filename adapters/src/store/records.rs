//! Records: heads, revisions, rows of effects and registered entries as bytes: one byte, then a message of `store.proto`.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidegate_stages::actor::{ActorId, ActorRef, Definition, HostAddress, HostSet};
use tidegate_stages::due::DueKey;
use tidegate_stages::outbox::{EffectId, OutboxKey, OutboxRow};
use tidegate_stages::ports::{Pause, Registered, RegisteredEntry};
use tidegate_stages::schedules::{ScheduleKey, ScheduleRow};
use tidegate_stages::state::{ActorState, Any, Head, Revision, Status, Timestamp};

use super::place::{Place, due_source, schedule_named};
use super::vault::{Layout, SealError, Vault};
use crate::proto::tidegate::store::v1 as stored;

/// First byte of every value: how the rest is encoded. The same in formats 1 and 2 of the store.
const ENCODING: u8 = 1;
/// `seal` of a value in the clear.
const CLEAR: u32 = 0;
/// `seal` of a value that the [`Vault`] sealed in one of its layouts. Such a value begins with the label of its layout; the
/// number is for versions that do not know the layout.
const SPAWN: u32 = Layout::Spawn as u32;
const PLACE: u32 = Layout::Place as u32;

/// Rebuilds a definition from its registered bytes, the addresses of its hosts and its system.
pub type DecodeDefinition = fn(Bytes, HostSet, &str) -> Result<Definition, String>;

/// Why a stored record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// The bytes are not what was written.
    #[error("{0}")]
    Malformed(String),
    /// The state is sealed and cannot be opened.
    #[error("{0}")]
    Sealed(#[from] SealError),
}

impl From<String> for RecordError {
    fn from(text: String) -> Self {
        Self::Malformed(text)
    }
}

fn encode(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(ENCODING);
    message.encode_raw(&mut bytes);
    bytes
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    // Copies the record once, so that no state keeps the engine's block alive; the parts share this copy.
    decode_shared(bytes, |rest| M::decode(Bytes::copy_from_slice(rest)))
}

fn decode_shared<M>(
    bytes: &[u8],
    read: impl FnOnce(&[u8]) -> Result<M, prost::DecodeError>,
) -> Result<M, String> {
    match bytes.split_first() {
        Some((&ENCODING, rest)) => read(rest).map_err(|error| error.to_string()),
        Some((found, _)) => Err(format!("a value of encoding {found}, known is {ENCODING}")),
        None => Err("an empty value".into()),
    }
}

fn status_out(status: Status) -> i32 {
    let status = match status {
        Status::Activated => stored::Status::Activated,
        Status::Deactivated => stored::Status::Deactivated,
        Status::Unknown => stored::Status::Unknown,
    };
    status.into()
}

fn status_in(status: i32) -> Status {
    match stored::Status::try_from(status) {
        Ok(stored::Status::Activated) => Status::Activated,
        Ok(stored::Status::Deactivated) => Status::Deactivated,
        Ok(stored::Status::Unknown) | Err(_) => Status::Unknown,
    }
}

fn seal(value: Bytes, place: Place<'_>, vault: &Vault) -> (Bytes, u32) {
    let sealed = vault.seal(&value, place);
    sealed.map_or((value, CLEAR), |sealed| (sealed, vault.layout() as u32))
}

fn open(value: Bytes, seal: u32, place: Place<'_>, vault: &Vault) -> Result<Bytes, RecordError> {
    match seal {
        CLEAR => Ok(vault.pass(value)),
        SPAWN | PLACE => Ok(vault.open(&value, place)?),
        later => Err(format!("a value sealed in layout {later}, known is {PLACE}").into()),
    }
}

fn content_out(content: ActorState, place: Place<'_>, vault: &Vault) -> stored::Content {
    let state = content.state.map(|Any { type_url, value }| {
        let (value, seal) = seal(value, place, vault);
        stored::State { type_url, value, seal }
    });
    stored::Content { tags: content.tags, state }
}

fn content_in(
    content: Option<stored::Content>,
    place: Place<'_>,
    vault: &Vault,
) -> Result<ActorState, RecordError> {
    let content = content.unwrap_or_default();
    let opened = |stored::State { type_url, value, seal }| {
        Ok::<_, RecordError>(Any { type_url, value: open(value, seal, place, vault)? })
    };
    Ok(ActorState { tags: content.tags, state: content.state.map(opened).transpose()? })
}

/// Encodes a head and, with `append`, the revision made from it. `actor` names the key that they belong to, see
/// [`named`](super::place::named), here and below.
pub(super) fn encode_head(
    actor: &[u8],
    head: Head,
    append: bool,
    vault: &Vault,
) -> (Vec<u8>, Option<Vec<u8>>) {
    let clear = head.content.state.as_ref().map(|state| state.value.clone());
    let place = Place::head(actor, head.version);
    let mut message = stored::Head {
        version: head.version,
        revision: head.revision,
        incarnation: head.incarnation,
        epoch: head.epoch,
        status: status_out(head.status),
        at_us: head.at.0,
        content: Some(content_out(head.content, place, vault)),
    };
    let encoded = encode(&message);
    let appended = append.then(|| {
        let state = message.content.as_mut().and_then(|content| content.state.as_mut());
        if let Some((state, clear)) = state.zip(clear) {
            (state.value, state.seal) = seal(clear, Place::revision(actor, head.revision), vault);
        }
        encode(&stored::Revision {
            revision: message.revision,
            version: message.version,
            incarnation: message.incarnation,
            epoch: message.epoch,
            status: message.status,
            at_us: message.at_us,
            content: message.content,
        })
    });
    (encoded, appended)
}

pub(super) fn encode_revision(actor: &[u8], revision: Revision, vault: &Vault) -> Vec<u8> {
    let place = Place::revision(actor, revision.revision);
    encode(&stored::Revision {
        revision: revision.revision,
        version: revision.version,
        incarnation: revision.incarnation,
        epoch: revision.epoch,
        status: status_out(revision.status),
        at_us: revision.at.0,
        content: Some(content_out(revision.content, place, vault)),
    })
}

pub(super) fn decode_head(actor: &[u8], bytes: &[u8], vault: &Vault) -> Result<Head, RecordError> {
    let head: stored::Head = decode(bytes)?;
    Ok(Head {
        version: head.version,
        revision: head.revision,
        incarnation: head.incarnation,
        epoch: head.epoch,
        status: status_in(head.status),
        at: Timestamp(head.at_us),
        content: content_in(head.content, Place::head(actor, head.version), vault)?,
    })
}

/// Decodes the revision that was found under a number.
pub(super) fn decode_revision(
    actor: &[u8],
    number: u64,
    bytes: &[u8],
    vault: &Vault,
) -> Result<Revision, RecordError> {
    let revision: stored::Revision = decode(bytes)?;
    Ok(Revision {
        revision: revision.revision,
        version: revision.version,
        incarnation: revision.incarnation,
        epoch: revision.epoch,
        status: status_in(revision.status),
        at: Timestamp(revision.at_us),
        content: content_in(revision.content, Place::revision(actor, number), vault)?,
    })
}

/// The same head under another epoch; sealed values stay as they are.
pub(super) fn move_head(bytes: &[u8], epoch: u64) -> Result<Vec<u8>, String> {
    decode(bytes).map(|head: stored::Head| encode(&stored::Head { epoch, ..head }))
}

/// The epoch of a head.
pub(super) fn epoch_of_head(bytes: &[u8]) -> Result<u64, String> {
    decode(bytes).map(|head: stored::Head| head.epoch)
}

/// A head of format 1 without its outbox; `None` when it has none.
pub(super) fn without_outbox(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let stored::HeadOutbox { outbox } = decode(bytes)?;
    if outbox.is_empty() {
        return Ok(None);
    }
    decode(bytes).map(|head: stored::Head| Some(encode(&head)))
}

pub(super) fn encode_row(actor: &[u8], row: OutboxRow, vault: &Vault) -> Vec<u8> {
    let place = Place::effect(actor, row.key, row.id);
    let (record, seal) = seal(row.record, place, vault);
    encode(&stored::OutboxRow { id: Some(id_out(row.id)), record, seal })
}

pub(super) fn decode_row(
    actor: &[u8],
    key: OutboxKey,
    bytes: &[u8],
    vault: &Vault,
) -> Result<OutboxRow, RecordError> {
    let row: stored::OutboxRow = decode(bytes)?;
    let id = id_in(row.id.unwrap_or_default());
    let place = Place::effect(actor, key, id);
    Ok(OutboxRow { key, id, record: open(row.record, row.seal, place, vault)? })
}

pub(super) fn encode_due(key: &DueKey, record: Bytes, vault: &Vault) -> Vec<u8> {
    let source = due_source(key);
    let (record, seal) = seal(record, Place::due(&source, key), vault);
    encode(&stored::Due { record, seal })
}

pub(super) fn decode_due(key: &DueKey, bytes: &[u8], vault: &Vault) -> Result<Bytes, RecordError> {
    let due: stored::Due = decode(bytes)?;
    let source = due_source(key);
    open(due.record, due.seal, Place::due(&source, key), vault)
}

pub(super) fn encode_pause(pause: &Pause) -> Vec<u8> {
    let Pause { since, by, ended, .. } = pause;
    let ended_us = ended.map_or(0, |ended| ended.0.max(1));
    encode(&stored::Pause { since_us: since.0, by: by.clone(), ended_us })
}

pub(super) fn decode_pause(actor: ActorRef, bytes: &[u8]) -> Result<Pause, String> {
    let stored::Pause { since_us, by, ended_us } = decode(bytes)?;
    let ended = (ended_us > 0).then_some(Timestamp(ended_us));
    Ok(Pause { actor, since: Timestamp(since_us), by, ended })
}

pub(super) fn encode_schedule(row: ScheduleRow, vault: &Vault) -> Vec<u8> {
    let ScheduleRow { key, runs, record } = row;
    let named = schedule_named(&key);
    let (record, seal) = seal(record, Place::schedule(&named, runs), vault);
    encode(&stored::Schedule { runs, record, seal })
}

pub(super) fn decode_schedule(
    key: ScheduleKey,
    bytes: &[u8],
    vault: &Vault,
) -> Result<ScheduleRow, RecordError> {
    let stored::Schedule { runs, record, seal } = decode(bytes)?;
    let named = schedule_named(&key);
    Ok(ScheduleRow { record: open(record, seal, Place::schedule(&named, runs), vault)?, key, runs })
}

pub(super) fn encode_effect_id(id: EffectId) -> Vec<u8> {
    encode(&id_out(id))
}

pub(super) fn decode_effect_id(bytes: &[u8]) -> Result<EffectId, String> {
    decode(bytes).map(id_in)
}

fn id_out(EffectId { epoch, activation, number }: EffectId) -> stored::EffectId {
    stored::EffectId { epoch, activation, number }
}

fn id_in(stored::EffectId { epoch, activation, number }: stored::EffectId) -> EffectId {
    EffectId { epoch, activation, number }
}

/// Decodes only the time of a revision, without a copy.
pub(super) fn decode_revision_time(bytes: &[u8]) -> Result<Timestamp, String> {
    let time: stored::RevisionTime =
        decode_shared(bytes, |rest| stored::RevisionTime::decode(rest))?;
    Ok(Timestamp(time.at_us))
}

pub(super) fn encode_registered(entry: &Registered) -> Vec<u8> {
    let key_parent = (entry.key.parent != entry.id().parent).then(|| entry.key.parent.clone());
    let entry = match &entry.entry {
        RegisteredEntry::Definition(definition) => {
            stored::registered::Entry::Definition(stored::Definition {
                raw: definition.raw.clone(),
                hosts: definition.hosts.all().iter().map(|host| host.as_str().into()).collect(),
                system: definition.id.system.clone(),
                retired: definition.retired,
            })
        }
        RegisteredEntry::Spawned { id, revision } => {
            stored::registered::Entry::Spawned(stored::Spawned {
                name: id.name.clone(),
                system: id.system.clone(),
                parent: id.parent.clone(),
                revision: *revision,
            })
        }
        RegisteredEntry::Deleted(key) => {
            let ActorId { name, system, parent } = ActorId::clone(key);
            stored::registered::Entry::Deleted(stored::Deleted { name, system, parent })
        }
    };
    encode(&stored::Registered { entry: Some(entry), key_parent })
}

pub(super) fn decode_registered(
    bytes: &[u8],
    definition: DecodeDefinition,
) -> Result<Registered, String> {
    let entry: stored::Registered = decode(bytes)?;
    let registered = match entry.entry {
        Some(stored::registered::Entry::Definition(kept)) => {
            let hosts = HostSet::new(kept.hosts.iter().map(|host| HostAddress::new(host)));
            let hosts = hosts.ok_or("a definition without a host")?;
            let registered = definition(kept.raw, hosts, &kept.system)?;
            let registered = if kept.retired { registered.retire() } else { registered };
            Registered::definition(Arc::new(registered))
        }
        Some(stored::registered::Entry::Spawned(kept)) => {
            let id = ActorId { name: kept.name, system: kept.system, parent: kept.parent };
            Registered::spawned(Arc::new(id), kept.revision)
        }
        Some(stored::registered::Entry::Deleted(stored::Deleted { name, system, parent })) => {
            Registered::deleted(Arc::new(ActorId { name, system, parent }))
        }
        None => return Err("an entry of the registry that this version does not know".into()),
    };
    Ok(match entry.key_parent {
        Some(parent) => {
            let key = ActorId { parent, ..registered.id().clone() };
            Registered { key: Arc::new(key), ..registered }
        }
        None => registered,
    })
}

pub(super) fn encode_checks(checks: Vec<Bytes>) -> Bytes {
    encode(&stored::Keys { checks }).into()
}

pub(super) fn decode_checks(bytes: &[u8]) -> Result<Vec<Bytes>, String> {
    decode(bytes).map(|keys: stored::Keys| keys.checks)
}

#[cfg(test)]
mod tests {
    use super::super::vault::Key;
    use super::*;

    const JOE: &[u8] = b"joe";

    #[test]
    fn a_value_of_another_encoding_is_refused_by_its_number() {
        let clear = Vault::default();
        let error = decode_head(JOE, &[2, 0], &clear).unwrap_err().to_string();
        assert!(error.contains("encoding 2"), "{error}");
        assert!(decode_head(JOE, &[], &clear).is_err());
        assert!(decode_head(JOE, &[ENCODING, 0xff], &clear).is_err());
    }

    #[test]
    fn a_sealed_record_shows_neither_state_nor_workflow_and_opens_with_its_key_only() {
        let key = Key::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let vault = Vault::new(&[key]);
        let state = Any { type_url: "t/Cart".into(), value: Bytes::from_static(b"secret state") };
        let content = ActorState { state: Some(state), ..ActorState::default() };
        let head = Head { content, revision: 1, ..Head::default() };
        let (sealed, revision) = encode_head(JOE, head.clone(), true, &vault);
        let revision = revision.unwrap();
        for record in [&sealed, &revision, &encode_revision(JOE, head.as_revision(), &vault)] {
            assert!(!record.windows(6).any(|bytes| bytes == b"secret"));
            assert!(record.windows(6).any(|bytes| bytes == b"t/Cart"));
        }
        assert_eq!(decode_head(JOE, &sealed, &vault).unwrap(), head);
        assert_eq!(decode_revision(JOE, 1, &revision, &vault).unwrap(), head.as_revision());
        let without = decode_head(JOE, &sealed, &Vault::default());
        assert!(matches!(without, Err(RecordError::Sealed(SealError::NoKey))), "{without:?}");
        // States written before there was a key stay readable.
        let (clear, _) = encode_head(JOE, head.clone(), false, &Vault::default());
        assert_eq!(decode_head(JOE, &clear, &vault).unwrap(), head);
    }

    #[test]
    fn a_layout_of_a_later_version_is_refused_by_its_number() {
        let state = stored::State { type_url: "t".into(), value: Bytes::new(), seal: 3 };
        let content = stored::Content { state: Some(state), ..stored::Content::default() };
        let head = stored::Head { content: Some(content), ..stored::Head::default() };
        let error = decode_head(JOE, &encode(&head), &Vault::default()).unwrap_err().to_string();
        assert!(error.contains("layout 3"), "{error}");
    }

    #[test]
    fn a_row_of_an_outbox_is_sealed_and_opened() {
        let key = Key::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let vault = Vault::new(&[key]);
        let id = EffectId { epoch: 1, activation: 2, number: 3 };
        let key = OutboxKey { epoch: 1, place: 4 };
        let row = OutboxRow { key, id, record: Bytes::from_static(b"secret effect") };
        let sealed = encode_row(JOE, row.clone(), &vault);
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(decode_row(JOE, key, &sealed, &vault).unwrap(), row);
        assert!(matches!(
            decode_row(JOE, key, &sealed, &Vault::default()),
            Err(RecordError::Sealed(SealError::NoKey))
        ));
        let clear = encode_row(JOE, row.clone(), &Vault::default());
        assert_eq!(decode_row(JOE, key, &clear, &vault).unwrap(), row);
        assert_eq!(decode_effect_id(&encode_effect_id(id)).unwrap(), id);
    }

    #[test]
    fn the_time_of_a_revision_is_read_without_the_rest() {
        let head = Head { at: Timestamp(77), revision: 1, ..Head::default() };
        let (_, revision) = encode_head(JOE, head, true, &Vault::default());
        assert_eq!(decode_revision_time(&revision.unwrap()).unwrap(), Timestamp(77));
    }
}
