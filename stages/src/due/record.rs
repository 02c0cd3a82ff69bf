//! Record: the call of an entry of due work, as bytes. Stores do not look inside.
//!
//! ```text
//! version 1 │ kind │ what the kind needs │ invocation
//!             0 call of a client   nothing
//!             1 side effect        system and name of its source
//!             2 look at a schedule nothing
//!             3 run of a schedule  its system and name, creation, number; the invocation has the actor only
//! ```
//! The invocation and its texts are encoded by the codec of invocations. A reader refuses a version that it does
//! not know.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::invocation::Invocation;
use crate::invocation::codec::{put, put_invocation, take_invocation, take_text};
use crate::schedules::{Creation, ScheduleKey};

const VERSION: u8 = 1;

const CALL: u8 = 0;
const EFFECT: u8 = 1;
const LOOK: u8 = 2;
const RUN: u8 = 3;

/// A run of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunId {
    pub(crate) key: ScheduleKey,
    pub(crate) creation: Creation,
    pub(crate) number: u64,
}

/// What an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A call of a client.
    Call,
    /// A side effect of this actor: system and name.
    Effect(String, String),
    /// To look at the schedule that is the entry's source.
    Look,
    /// To make a run of a schedule.
    Run(RunId),
}

/// A call to be made later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The call. It is not kept who made it: that was checked when it was accepted.
    pub(crate) invocation: Invocation,
    /// What it is for.
    pub(crate) purpose: Purpose,
}

impl Record {
    /// Encodes it.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match &self.purpose {
            Purpose::Call => out.put_u8(CALL),
            Purpose::Effect(system, name) => {
                out.put_u8(EFFECT);
                put(&mut out, system.as_bytes());
                put(&mut out, name.as_bytes());
            }
            Purpose::Look => out.put_u8(LOOK),
            Purpose::Run(RunId { key, creation, number }) => {
                out.put_u8(RUN);
                put(&mut out, key.system.as_bytes());
                put(&mut out, key.name.as_bytes());
                for number in [creation.epoch, creation.number, *number] {
                    out.put_u64_le(number);
                }
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
        let purpose = match from.try_get_u8().ok()? {
            CALL => Purpose::Call,
            EFFECT => Purpose::Effect(take_text(from)?, take_text(from)?),
            LOOK => Purpose::Look,
            RUN => {
                let key = ScheduleKey { system: take_text(from)?, name: take_text(from)? };
                let mut number = || from.try_get_u64_le().ok();
                let creation = Creation { epoch: number()?, number: number()? };
                Purpose::Run(RunId { key, creation, number: number()? })
            }
            _ => return None,
        };
        let invocation = take_invocation(from)?;
        bytes.is_empty().then_some(Self { invocation, purpose })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::codec::tests::invocations;

    fn records() -> impl Iterator<Item = Record> {
        let key = ScheduleKey { system: "s".into(), name: "nightly".into() };
        let run = RunId { key, creation: Creation { epoch: 2, number: 3 }, number: 4 };
        let effect = Purpose::Effect("s".to_owned(), "joe".to_owned());
        let purposes = [Purpose::Call, effect, Purpose::Look, Purpose::Run(run)];
        invocations().into_iter().flat_map(move |invocation| {
            purposes.clone().map(|purpose| Record { invocation: invocation.clone(), purpose })
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
