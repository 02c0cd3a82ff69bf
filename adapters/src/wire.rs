//! Wire: converts between protobuf messages and domain types.
//!
//! Payloads are slices of the received body (`Bytes`), never copies; domain values are moved into messages. Decoding is lenient
//! where SDKs differ (decision 27): unknown enum numbers are kept, unknown fields are skipped, and a channel may be a bare
//! string. A registered definition is kept byte for byte beside its decoded form.

#![warn(clippy::indexing_slicing, reason = "bytes from outside are read here")]

mod count;
mod borrowed;
mod parts;
mod definition;
mod request;
mod action;
mod reply;
mod history;
mod channel;
mod effect;
mod hosts;
mod member;
mod topics;
pub mod json;
mod schedule;

pub(crate) use action::UPDATED_CONTEXT;
pub use action::{
    action_request, action_response, encode_action_response, read_action_request, response_of,
};
pub use channel::{publication, published};
pub use definition::{definition, registration};
pub use effect::{Effect, EffectListing, LettersChanged};
pub use history::{Blob, Entry, Form, Listing};
pub use hosts::{drained, hosts};
pub use member::{Numbered, encode_member_broadcast, member_broadcast};
pub use parts::{actor_id, actor_state, proto_actor_id};
pub use reply::{Outcome, accepted, error, invoked, registered, state};
pub use request::{Called, Echo, encode_invocation, invocation, invocation_request, spawn};
pub use schedule::{
    NewSchedule, OpenRunView, PastRunView, ScheduleForm, ScheduleListing, ScheduleView,
    new_schedule, schedule, schedules,
};
pub use topics::{subscribers, topics};

/// Why a received message is refused; it had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes cannot be decoded as the message.
    #[error("the body is no {message}: {reason}")]
    Undecodable {
        /// The expected message.
        message: &'static str,
        /// The error of the decoder.
        reason: String,
    },
    /// A required field is absent.
    #[error("{message}.{field} is missing")]
    Missing {
        /// The message.
        message: &'static str,
        /// Path of the field within the message.
        field: &'static str,
    },
    /// A field has an invalid value.
    #[error("{field} {reason}")]
    Wrong {
        /// Path of the field.
        field: String,
        /// Why the value is invalid.
        reason: String,
    },
    /// A message names more actors than one request may.
    #[error(
        "{field} has {count} actors, at most {limit} are allowed in one request (TIDEGATE_MAX_REGISTERED_PER_REQUEST)"
    )]
    TooMany {
        /// Path of the field.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

impl Malformed {
    fn undecodable(message: &'static str, error: &prost::DecodeError) -> Self {
        Self::Undecodable { message, reason: error.to_string() }
    }

    fn wrong(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Wrong { field: field.into(), reason: reason.into() }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
