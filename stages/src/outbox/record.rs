//! Record: the content of a row of the outbox, as bytes. Stores do not look inside.
//!
//! ```text
//! version 1 │ emitted at │ mark │ of a dead letter: when it became one, after how many tries, and why │ invocation
//! ```
//! Numbers are little-endian. The invocation and the text are encoded by the codec of invocations. A reader
//! refuses a version that it does not know.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::invocation::Invocation;
use crate::invocation::codec::{put, put_invocation, take_invocation, take_text};
use crate::state::Timestamp;

const VERSION: u8 = 1;

const PENDING: u8 = 0;
/// A dead letter of which nobody counted the tries.
const DEAD: u8 = 1;
const DEAD_AFTER: u8 = 2;

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
    /// Tries since the start of the proxy at which it became one; 0: not known.
    pub attempts: u32,
    /// The last error.
    pub reason: String,
}

impl Record {
    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.at.0);
        match &self.dead {
            None => out.put_u8(PENDING),
            Some(dead) => {
                out.put_u8(DEAD_AFTER);
                out.put_u64_le(dead.at.0);
                out.put_u32_le(dead.attempts);
                put(&mut out, dead.reason.as_bytes());
            }
        }
        put_invocation(&mut out, &self.invocation);
        out.freeze()
    }

    /// Decodes it; `None` when the bytes are damaged or of a later version.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let from = &mut bytes;
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let at = Timestamp(from.try_get_u64_le().ok()?);
        let dead = match from.try_get_u8().ok()? {
            PENDING => None,
            mark @ (DEAD | DEAD_AFTER) => {
                let at = Timestamp(from.try_get_u64_le().ok()?);
                let attempts = if mark == DEAD { 0 } else { from.try_get_u32_le().ok()? };
                Some(Dead { at, attempts, reason: take_text(from)? })
            }
            _ => return None,
        };
        let invocation = Invocation { asynchronous: true, ..take_invocation(from)? };
        bytes.is_empty().then_some(Self { at, dead, invocation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::codec::tests::invocations;

    fn records() -> impl Iterator<Item = Record> {
        let dead = Some(Dead { at: Timestamp(9), attempts: 3, reason: "not found".into() });
        invocations().into_iter().flat_map(move |invocation| {
            let invocation = Invocation { asynchronous: true, ..invocation };
            let of = |dead| Record { at: Timestamp(3), dead, invocation: invocation.clone() };
            [of(None), of(dead.clone())]
        })
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for record in records() {
            assert_eq!(Record::decode(record.encode()), Some(record));
        }
    }

    #[test]
    fn a_dead_letter_without_a_count_of_tries_is_read() {
        for record in records().filter(|record| record.dead.is_some()) {
            let mut bytes = record.encode().to_vec();
            assert_eq!(bytes[9], DEAD_AFTER);
            bytes[9] = DEAD;
            bytes.drain(18..22);
            let mut expected = record;
            expected.dead.as_mut().unwrap().attempts = 0;
            assert_eq!(Record::decode(bytes.into()), Some(expected));
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
