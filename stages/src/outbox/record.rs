//! Record: the content of a row of the outbox, as bytes. Stores do not look inside.
//!
//! ```text
//! version 1 │ mark │ emitted at │ scheduled to │ flags │ texts and bytes, each with its length │ metadata
//! ```
//! Numbers are little-endian, lengths have four bytes. A reader refuses a version that it does not know.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::actor::ActorId;
use crate::invocation::{Invocation, Metadata, Payload};
use crate::state::{Any, Timestamp};

const VERSION: u8 = 1;

const PENDING: u8 = 0;
const DEAD: u8 = 1;

const POOLED: u8 = 1;
const HAS_CALLER: u8 = 2;
const HAS_VALUE: u8 = 4;
const IS_NOOP: u8 = 8;

/// An effect as its outbox keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When its source emitted it.
    pub at: Timestamp,
    /// Why it is not delivered any more; `None`: it is to be delivered.
    pub dead: Option<Dead>,
    /// The call that it makes. Identity and `asynchronous` are not kept: every effect has those of the mesh.
    pub invocation: Invocation,
}

/// Why an effect became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// When it did.
    pub at: Timestamp,
    /// The last error.
    pub reason: String,
}

impl Record {
    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        let Invocation {
            actor,
            action,
            payload,
            metadata,
            caller,
            register_ref,
            scheduled_to,
            pooled,
            traceparent,
            identity: _,
            asynchronous: _,
        } = &self.invocation;
        let mut out = BytesMut::with_capacity(128 + self.invocation.bytes());
        out.put_u8(VERSION);
        out.put_u8(if self.dead.is_some() { DEAD } else { PENDING });
        out.put_u64_le(self.at.0);
        out.put_i64_le(*scheduled_to);
        let mut flags = 0;
        for (flag, is_set) in [
            (POOLED, *pooled),
            (HAS_CALLER, caller.is_some()),
            (HAS_VALUE, matches!(payload, Payload::Value(_))),
            (IS_NOOP, *payload == Payload::Noop),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        out.put_u8(flags);
        if let Some(dead) = &self.dead {
            out.put_u64_le(dead.at.0);
            put(&mut out, dead.reason.as_bytes());
        }
        for id in [Some(actor), caller.as_ref()].into_iter().flatten() {
            for part in [&id.system, &id.name, &id.parent] {
                put(&mut out, part.as_bytes());
            }
        }
        for text in [action, register_ref, traceparent] {
            put(&mut out, text.as_bytes());
        }
        if let Payload::Value(any) = payload {
            put(&mut out, any.type_url.as_bytes());
            put(&mut out, &any.value);
        }
        put_length(&mut out, metadata.len());
        for text in metadata.iter().flat_map(|(key, value)| [key, value]) {
            put(&mut out, text.as_bytes());
        }
        out.freeze()
    }

    /// Decodes it; `None` when the bytes are damaged or of a later version.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let from = &mut bytes;
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let mark = from.try_get_u8().ok()?;
        let at = Timestamp(from.try_get_u64_le().ok()?);
        let scheduled_to = from.try_get_i64_le().ok()?;
        let flags = from.try_get_u8().ok()?;
        let dead = match mark {
            PENDING => None,
            DEAD => {
                let at = Timestamp(from.try_get_u64_le().ok()?);
                Some(Dead { at, reason: text(from)? })
            }
            _ => return None,
        };
        let actor = id(from)?;
        let caller = if flags & HAS_CALLER == 0 { None } else { Some(id(from)?) };
        let (action, register_ref, traceparent) = (text(from)?, text(from)?, text(from)?);
        let payload = if flags & HAS_VALUE != 0 {
            Payload::Value(Any { type_url: text(from)?, value: take(from)? })
        } else if flags & IS_NOOP != 0 {
            Payload::Noop
        } else {
            Payload::Unset
        };
        let mut metadata = Metadata::new();
        for _ in 0..length(from)? {
            metadata.insert(text(from)?, text(from)?);
        }
        if from.has_remaining() {
            return None;
        }
        let invocation = Invocation {
            actor,
            action,
            payload,
            metadata,
            caller,
            asynchronous: true,
            register_ref,
            scheduled_to,
            pooled: flags & POOLED != 0,
            traceparent,
            ..Invocation::default()
        };
        Some(Self { at, dead, invocation })
    }
}

fn put_length(out: &mut BytesMut, length: usize) {
    // A response of a host is far below 4 GiB.
    out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

fn length(from: &mut Bytes) -> Option<usize> {
    usize::try_from(from.try_get_u32_le().ok()?).ok()
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = length(from)?;
    (length <= from.remaining()).then(|| from.split_to(length))
}

fn text(from: &mut Bytes) -> Option<String> {
    String::from_utf8(take(from)?.into()).ok()
}

fn id(from: &mut Bytes) -> Option<ActorId> {
    Some(ActorId { system: text(from)?, name: text(from)?, parent: text(from)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let id = |name: &str| ActorId { name: name.into(), system: "s".into(), parent: "p".into() };
        let value = Any { type_url: "t/x".into(), value: Bytes::from_static(b"\0\xff") };
        let full = Invocation {
            actor: id("ä|@"),
            action: "add".into(),
            payload: Payload::Value(value),
            metadata: [("k".to_owned(), "v".to_owned()), (String::new(), "w".to_owned())].into(),
            caller: Some(id("joe")),
            asynchronous: true,
            register_ref: "template".into(),
            scheduled_to: -7,
            pooled: true,
            traceparent: "00-1".into(),
            ..Invocation::default()
        };
        let plain = Invocation { asynchronous: true, ..Invocation::default() };
        let noop = Invocation { payload: Payload::Noop, ..plain.clone() };
        let dead = Some(Dead { at: Timestamp(9), reason: "not found".into() });
        let empty = Invocation { payload: Payload::Value(Any::default()), ..plain.clone() };
        let of = |invocation| Record { at: Timestamp(3), dead: None, invocation };
        vec![of(full.clone()), of(plain), of(noop), of(empty), Record { dead, ..of(full) }]
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for record in records() {
            assert_eq!(Record::decode(record.encode()), Some(record));
        }
    }

    #[test]
    fn damaged_bytes_and_later_versions_are_refused() {
        for record in records() {
            let bytes = record.encode();
            for length in 0..bytes.len() {
                assert_eq!(Record::decode(bytes.slice(..length)), None);
            }
            let mut later = bytes.to_vec();
            later[0] += 1;
            assert_eq!(Record::decode(later.into()), None);
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Record::decode(longer.into()), None);
        }
    }
}
