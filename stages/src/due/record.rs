//! Record: the call of an entry of due work, as bytes. Stores do not look inside.
//!
//! ```text
//! version 1 │ flags │ texts and bytes, each with its length │ metadata
//! ```
//! Lengths have four bytes, little-endian. A reader refuses a version that it does not know. The time is in the key.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::actor::ActorId;
use crate::invocation::{Invocation, Metadata, Payload};
use crate::state::Any;

const VERSION: u8 = 1;

const HAS_CALLER: u8 = 1;
const HAS_VALUE: u8 = 2;
const IS_NOOP: u8 = 4;
const IS_EFFECT: u8 = 8;

/// A call to be made later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The call. It is not kept who made it: that was checked when it was accepted.
    pub(crate) invocation: Invocation,
    /// The actor of which it is a side effect: system and name.
    pub(crate) effect_of: Option<(String, String)>,
}

impl Record {
    /// Encodes it.
    pub(crate) fn encode(&self) -> Bytes {
        let Invocation {
            actor, action, payload, metadata, caller, register_ref, traceparent, ..
        } = &self.invocation;
        let mut out = BytesMut::with_capacity(128 + self.invocation.bytes());
        out.put_u8(VERSION);
        let flags = [
            (HAS_CALLER, caller.is_some()),
            (HAS_VALUE, matches!(payload, Payload::Value(_))),
            (IS_NOOP, *payload == Payload::Noop),
            (IS_EFFECT, self.effect_of.is_some()),
        ];
        out.put_u8(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).sum());
        for id in [Some(actor), caller.as_ref()].into_iter().flatten() {
            for part in [&id.system, &id.name, &id.parent] {
                put(&mut out, part.as_bytes());
            }
        }
        if let Some((system, name)) = &self.effect_of {
            put(&mut out, system.as_bytes());
            put(&mut out, name.as_bytes());
        }
        for text in [action, register_ref, traceparent] {
            put(&mut out, text.as_bytes());
        }
        if let Payload::Value(any) = payload {
            put(&mut out, any.type_url.as_bytes());
            put(&mut out, &any.value);
        }
        for text in metadata.iter().flat_map(|(key, value)| [key, value]) {
            put(&mut out, text.as_bytes());
        }
        out.freeze()
    }

    /// Decodes it; `None` when the bytes are damaged or of a later version.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        let from = &mut bytes;
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let flags = from.try_get_u8().ok()?;
        let has = |flag| flags & flag != 0;
        let target = id(from)?;
        let caller = if has(HAS_CALLER) { Some(id(from)?) } else { None };
        let effect_of = if has(IS_EFFECT) { Some((text(from)?, text(from)?)) } else { None };
        let (action, register_ref, traceparent) = (text(from)?, text(from)?, text(from)?);
        let payload = if has(HAS_VALUE) {
            Payload::Value(Any { type_url: text(from)?, value: take(from)? })
        } else if has(IS_NOOP) {
            Payload::Noop
        } else {
            Payload::Unset
        };
        let mut metadata = Metadata::new();
        while from.has_remaining() {
            metadata.insert(text(from)?, text(from)?);
        }
        let call = Invocation {
            actor: target,
            action,
            payload,
            metadata,
            caller,
            ..Invocation::default()
        };
        Some(Self { invocation: Invocation { register_ref, traceparent, ..call }, effect_of })
    }
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    // A request is far below 4 GiB.
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(from.try_get_u32_le().ok()?).ok()?;
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
            actor: id("ä|@ \u{202e}"),
            action: "add".into(),
            payload: Payload::Value(value),
            metadata: [("k".to_owned(), "v".to_owned()), (String::new(), "w".to_owned())].into(),
            caller: Some(id("joe")),
            register_ref: "template".into(),
            traceparent: "00-1".into(),
            ..Invocation::default()
        };
        let noop = Invocation { payload: Payload::Noop, ..Invocation::default() };
        let empty = Payload::Value(Any::default());
        let empty = Invocation { payload: empty, ..Invocation::default() };
        let of = |invocation| Record { invocation, effect_of: None };
        let effect_of = Some(("s".to_owned(), "joe".to_owned()));
        let effect = Record { invocation: full.clone(), effect_of };
        vec![of(full), of(Invocation::default()), of(noop), of(empty), effect]
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
            let whole = record.invocation.metadata.is_empty().then_some(bytes.len());
            for length in 0..whole.unwrap_or(40) {
                assert_eq!(Record::decode(bytes.slice(..length)), None, "{length}");
            }
            assert_eq!(Record::decode([&bytes[..], &[0]].concat().into()), None);
            let mut later = bytes.to_vec();
            later[0] += 1;
            assert_eq!(Record::decode(later.into()), None);
        }
    }
}
