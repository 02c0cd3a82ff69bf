//! Codec: an invocation as bytes, for the records in which stores keep calls. Stores do not look inside.
//!
//! ```text
//! flags │ scheduled to │ target, caller: system, name, parent │ action, register_ref, traceparent │ payload │ metadata
//! ```
//! Numbers are little-endian. Texts and bytes come after their length, metadata after their count; both have four bytes.
//! Neither the identity of the client nor `asynchronous` is kept: whoever reads a record knows both.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Invocation, Metadata, Payload};
use crate::actor::ActorId;
use crate::state::Any;

const POOLED: u8 = 1;
const HAS_CALLER: u8 = 2;
const HAS_VALUE: u8 = 4;
const IS_NOOP: u8 = 8;

/// Appends an invocation.
pub(crate) fn put_invocation(out: &mut BytesMut, invocation: &Invocation) {
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
        request: _,
        asynchronous: _,
    } = invocation;
    let flags = [
        (POOLED, *pooled),
        (HAS_CALLER, caller.is_some()),
        (HAS_VALUE, matches!(payload, Payload::Value(_))),
        (IS_NOOP, *payload == Payload::Noop),
    ];
    out.reserve(128 + invocation.bytes());
    out.put_u8(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).sum());
    out.put_i64_le(*scheduled_to);
    for id in [Some(actor), caller.as_ref()].into_iter().flatten() {
        for part in [&id.system, &id.name, &id.parent] {
            put(out, part.as_bytes());
        }
    }
    for text in [action, register_ref, traceparent] {
        put(out, text.as_bytes());
    }
    if let Payload::Value(any) = payload {
        put(out, any.type_url.as_bytes());
        put(out, &any.value);
    }
    put_length(out, metadata.len());
    for text in metadata.iter().flat_map(|(key, value)| [key, value]) {
        put(out, text.as_bytes());
    }
}

/// Takes an invocation; `None` when the bytes are damaged.
pub(crate) fn take_invocation(from: &mut Bytes) -> Option<Invocation> {
    let flags = from.try_get_u8().ok()?;
    let has = |flag| flags & flag != 0;
    let scheduled_to = from.try_get_i64_le().ok()?;
    let actor = take_id(from)?;
    let caller = if has(HAS_CALLER) { Some(take_id(from)?) } else { None };
    let (action, register_ref) = (take_text(from)?, take_text(from)?);
    let traceparent = take_text(from)?;
    let payload = if has(HAS_VALUE) {
        Payload::Value(Any { type_url: take_text(from)?, value: take(from)? })
    } else if has(IS_NOOP) {
        Payload::Noop
    } else {
        Payload::Unset
    };
    let mut metadata = Metadata::new();
    for _ in 0..take_length(from)? {
        metadata.insert(take_text(from)?, take_text(from)?);
    }
    let pooled = has(POOLED);
    let call = Invocation { actor, action, payload, metadata, caller, ..Invocation::default() };
    Some(Invocation { register_ref, scheduled_to, pooled, traceparent, ..call })
}

/// Appends bytes with their length.
pub(crate) fn put(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Takes a text with its length; `None` when it is not there or no UTF-8.
pub(crate) fn take_text(from: &mut Bytes) -> Option<String> {
    String::from_utf8(take(from)?.into()).ok()
}

fn put_length(out: &mut BytesMut, length: usize) {
    // Requests and responses are far below 4 GiB.
    out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

fn take_length(from: &mut Bytes) -> Option<usize> {
    usize::try_from(from.try_get_u32_le().ok()?).ok()
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = take_length(from)?;
    (length <= from.remaining()).then(|| from.split_to(length))
}

fn take_id(from: &mut Bytes) -> Option<ActorId> {
    Some(ActorId { system: take_text(from)?, name: take_text(from)?, parent: take_text(from)? })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Invocations of each form.
    pub(crate) fn invocations() -> Vec<Invocation> {
        let id = |name: &str| ActorId { name: name.into(), system: "s".into(), parent: "p".into() };
        let value = Any { type_url: "t/x".into(), value: Bytes::from_static(b"\0\xff") };
        let full = Invocation {
            actor: id("ä|@ \u{202e}"),
            action: "add".into(),
            payload: Payload::Value(value),
            metadata: [("k".to_owned(), "v".to_owned()), (String::new(), "w".to_owned())].into(),
            caller: Some(id("joe")),
            register_ref: "template".into(),
            scheduled_to: -7,
            pooled: true,
            traceparent: "00-1".into(),
            ..Invocation::default()
        };
        let plain = Invocation::default();
        let noop = Invocation { payload: Payload::Noop, ..plain.clone() };
        let empty = Invocation { payload: Payload::Value(Any::default()), ..plain.clone() };
        vec![full, plain, noop, empty]
    }

    #[test]
    fn an_invocation_is_read_as_it_was_written_and_half_a_one_is_none() {
        for invocation in invocations() {
            let mut out = BytesMut::new();
            put_invocation(&mut out, &invocation);
            let bytes = out.freeze();
            for length in 0..bytes.len() {
                assert_eq!(take_invocation(&mut bytes.slice(..length)), None, "{length}");
            }
            let mut from = bytes;
            assert_eq!(take_invocation(&mut from), Some(invocation));
            assert!(from.is_empty());
        }
    }
}
