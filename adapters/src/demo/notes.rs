//! Notes: what a receiver of numbers keeps. The sender counts 1, 2, 3, …, so a missing number and a repeated one can be told.

use anyhow::Context as _;
use prost::Message as _;

use crate::proto::google::protobuf::Any;

const TYPE: &str = "type.googleapis.com/tidegate.demo.Notes";

/// The state of a ledger and of the listener.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Notes {
    /// The highest number.
    #[prost(uint64, tag = "1")]
    pub(super) last: u64,
    /// Numbers that were left out.
    #[prost(uint64, tag = "2")]
    pub(super) lost: u64,
    /// Numbers that came once more, or after a higher one.
    #[prost(uint64, tag = "3")]
    pub(super) doubled: u64,
}

impl Notes {
    /// Returns the notes in a state; no state means none.
    pub(super) fn of(any: Option<&Any>) -> anyhow::Result<Notes> {
        let Some(any) = any else { return Ok(Notes::default()) };
        anyhow::ensure!(any.type_url == TYPE, "expected a {TYPE}, got a {:?}", any.type_url);
        Notes::decode(any.value.clone()).context("not notes")
    }

    pub(super) fn to_state(self) -> Any {
        Any { type_url: TYPE.into(), value: self.encode_to_vec().into() }
    }

    /// Notes a number.
    pub(super) fn note(&mut self, number: u64) {
        if number <= self.last {
            self.doubled += 1;
        } else {
            self.lost += number - self.last - 1;
            self.last = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> Notes {
        let mut notes = Notes::default();
        for number in numbers {
            notes.note(*number);
        }
        Notes::of(Some(&notes.to_state())).unwrap()
    }

    #[test]
    fn a_number_that_is_left_out_or_comes_again_is_noted() {
        assert_eq!(of(&[1, 2, 3]), Notes { last: 3, lost: 0, doubled: 0 });
        assert_eq!(of(&[1, 2, 5]), Notes { last: 5, lost: 2, doubled: 0 });
        assert_eq!(of(&[1, 2, 2, 3]), Notes { last: 3, lost: 0, doubled: 1 });
        // One lost and one doubled do not make up for each other.
        assert_eq!(of(&[1, 1, 3]), Notes { last: 3, lost: 1, doubled: 1 });
    }
}
