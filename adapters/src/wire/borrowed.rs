//! Borrowed: encodes messages out of values that belong to others.
//!
//! A generated message owns its parts: to encode a name with it, the name is copied first. A call to a host has many names, so
//! its message is written from references here. Tests compare the bytes with those of the generated message.

use std::collections::BTreeMap;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tidegate_stages::actor::ActorId;
use tidegate_stages::state::Any;

/// A message, or a part of one.
pub(super) trait Part {
    /// Writes its fields, in the order of their numbers.
    fn write(&self, out: &mut impl Sink);
}

/// Where fields go: a buffer, or the count of their bytes.
pub(super) trait Sink {
    /// Begins a field of so many bytes.
    fn field(&mut self, number: u32, length: usize);
    /// The next bytes of a field.
    fn bytes(&mut self, bytes: &[u8]);

    /// A field of bytes or text; an empty one is left out.
    fn blob(&mut self, number: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.field(number, bytes.len());
            self.bytes(bytes);
        }
    }

    /// A message in a field; an empty one is there too.
    fn message(&mut self, number: u32, part: &impl Part) {
        self.field(number, length(part));
        // Whoever counts the bytes has counted these.
        self.part(part);
    }

    /// The fields of a message, whose field has begun.
    fn part(&mut self, part: &impl Part);
}

struct Length(usize);

impl Sink for Length {
    fn field(&mut self, number: u32, length: usize) {
        self.0 += key_len(number) + encoded_len_varint(length as u64) + length;
    }

    fn bytes(&mut self, _: &[u8]) {}

    fn part(&mut self, _: &impl Part) {}
}

impl Sink for Vec<u8> {
    fn field(&mut self, number: u32, length: usize) {
        let key = number << 3 | WireType::LengthDelimited as u32;
        // Nearly all fields: a byte each.
        if let (Ok(key @ ..0x80), Ok(length @ ..0x80)) = (u8::try_from(key), u8::try_from(length)) {
            return self.extend_from_slice(&[key, length]);
        }
        encode_key(number, WireType::LengthDelimited, self);
        encode_varint(length as u64, self);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn part(&mut self, part: &impl Part) {
        part.write(self);
    }
}

/// How many bytes a message has.
fn length(part: &impl Part) -> usize {
    let mut length = Length(0);
    part.write(&mut length);
    length.0
}

/// Encodes a message into one buffer of the exact size.
pub(super) fn encode(message: &impl Part) -> Vec<u8> {
    let mut out = Vec::with_capacity(length(message));
    message.write(&mut out);
    out
}

/// A message without fields.
pub(super) struct Empty;

impl Part for Empty {
    fn write(&self, _: &mut impl Sink) {}
}

impl Part for Any {
    fn write(&self, out: &mut impl Sink) {
        out.blob(1, self.type_url.as_bytes());
        out.blob(2, &self.value);
    }
}

/// An identity; without its parent if that is not to be named.
pub(super) struct Id<'a> {
    pub(super) id: &'a ActorId,
    pub(super) has_parent: bool,
}

impl Part for Id<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.blob(1, self.id.name.as_bytes());
        out.blob(2, self.id.system.as_bytes());
        if self.has_parent {
            out.blob(3, self.id.parent.as_bytes());
        }
    }
}

/// One entry of a map.
struct Entry<'a>(&'a str, &'a str);

impl Part for Entry<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.blob(1, self.0.as_bytes());
        out.blob(2, self.1.as_bytes());
    }
}

/// Writes a map of text.
pub(super) fn map(out: &mut impl Sink, number: u32, entries: &BTreeMap<String, String>) {
    for (key, value) in entries {
        out.message(number, &Entry(key, value));
    }
}
