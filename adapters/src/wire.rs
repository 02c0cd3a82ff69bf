//! Wire: protobuf ↔ the domain's types, both directions.
//!
//! Payloads are slices of the body they came in (`Bytes`), never copies, and domain values are moved into messages. Decoding is
//! lenient where SDKs differ (decision 27): unknown enum numbers survive, unknown fields are skipped, a channel may be a bare
//! string, and what a host registered is kept byte for byte beside the decoded form.

#![warn(clippy::indexing_slicing, reason = "bytes from outside are read here")]

mod parts;
mod definition;
mod request;
mod action;
mod reply;
mod history;

pub use action::{action_request, action_response, encode_action_response, read_action_request};
pub use definition::{definition, registration};
pub use history::{Blob, Entry, Form, Listing, json_error};
pub use parts::{actor_id, actor_state, proto_actor_id};
pub use reply::{Outcome, accepted, error, invoked, registered, state};
pub use request::{Called, Echo, invocation, invocation_request, spawn};

/// Why a message from outside is refused; nothing was done with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are no such message.
    #[error("the body is not a {message}: {reason}")]
    Undecodable {
        /// The message that was expected.
        message: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A field that is needed is absent.
    #[error("{message}.{field} is missing")]
    Missing {
        /// The message.
        message: &'static str,
        /// Path of the field within it.
        field: &'static str,
    },
    /// A field holds something that makes no sense.
    #[error("{field} {reason}")]
    Wrong {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
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
mod tests;
