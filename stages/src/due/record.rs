//! Record: the call of an entry of due work, as bytes. Stores do not look inside.
//!
//! ```text
//! version 1 │ kind │ of a side effect: system and name of its source │ invocation
//! ```
//! The invocation and its texts are encoded by the codec of invocations. A reader refuses a version that it does
//! not know.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::invocation::Invocation;
use crate::invocation::codec::{put, put_invocation, take_invocation, take_text};

const VERSION: u8 = 1;

const CALL: u8 = 0;
const EFFECT: u8 = 1;

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
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match &self.effect_of {
            None => out.put_u8(CALL),
            Some((system, name)) => {
                out.put_u8(EFFECT);
                put(&mut out, system.as_bytes());
                put(&mut out, name.as_bytes());
            }
        }
        put_invocation(&mut out, &self.invocation);
        out.freeze()
    }

    /// Decodes it; `None` when the bytes are damaged or of a later version.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        let from = &mut bytes;
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let effect_of = match from.try_get_u8().ok()? {
            CALL => None,
            EFFECT => Some((take_text(from)?, take_text(from)?)),
            _ => return None,
        };
        let invocation = take_invocation(from)?;
        bytes.is_empty().then_some(Self { invocation, effect_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::codec::tests::invocations;

    fn records() -> impl Iterator<Item = Record> {
        let source = Some(("s".to_owned(), "joe".to_owned()));
        invocations().into_iter().flat_map(move |invocation| {
            [None, source.clone()]
                .map(|effect_of| Record { invocation: invocation.clone(), effect_of })
        })
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
                assert_eq!(Record::decode(bytes.slice(..length)), None, "{length}");
            }
            assert_eq!(Record::decode([&bytes[..], &[0]].concat().into()), None);
            let mut later = bytes.to_vec();
            later[0] += 1;
            assert_eq!(Record::decode(later.into()), None);
        }
    }
}
