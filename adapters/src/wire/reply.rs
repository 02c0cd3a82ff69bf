//! Reply: encodes responses to callers.

use bytes::Bytes;
use prost::Message;
use tidegate_stages::invocation::Payload;
use tidegate_stages::state::ActorState;

use super::borrowed::{Empty, Part, Sink, encode};
use super::parts::proto_actor_state;
use super::request::Echo;
use crate::proto::eigr::functions::protocol as wire;

/// The failure that an error body reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is no such actor.
    ActorNotFound,
    /// Anything else.
    Error,
}

impl Outcome {
    fn status(self) -> wire::Status {
        match self {
            Outcome::ActorNotFound => wire::Status::ActorNotFound,
            Outcome::Error => wire::Status::Error,
        }
    }

    /// The name as the protocol spells it.
    pub fn name(self) -> &'static str {
        self.status().as_str_name()
    }
}

/// `InvocationResponse`, with the echoed parts as the caller's bytes.
struct Invoked<'a> {
    echo: &'a Echo,
    payload: &'a Payload,
}

impl Part for Invoked<'_> {
    fn write(&self, out: &mut impl Sink) {
        /// A `RequestStatus` that says `OK`.
        const OK: [u8; 2] = [1 << 3, wire::Status::Ok as u8];
        for (number, message) in [(1, &OK[..]), (2, &self.echo.system), (3, &self.echo.actor)] {
            out.field(number, message.len());
            out.bytes(message);
        }
        match self.payload {
            Payload::Unset => {}
            Payload::Value(any) => out.message(4, any),
            Payload::Noop => out.message(5, &Empty),
        }
    }
}

fn status(status: wire::Status, message: impl Into<String>) -> wire::RequestStatus {
    wire::RequestStatus { status: status.into(), message: message.into() }
}

/// The status of a success.
pub(super) fn ok() -> wire::RequestStatus {
    status(wire::Status::Ok, "")
}

/// Encodes the `InvocationResponse` of a call that succeeded, or of an asynchronous call that was accepted.
pub fn invoked(echo: &Echo, payload: &Payload) -> Bytes {
    encode(&Invoked { echo, payload }).into()
}

/// Encodes the `RegistrationResponse` of an accepted registration.
pub fn registered() -> Bytes {
    let message = wire::RegistrationResponse {
        status: Some(status(wire::Status::Ok, "Accepted")),
        // SDKs expect the version numbers of the original (decision 25).
        proxy_info: Some(wire::ProxyInfo {
            protocol_major_version: 1,
            protocol_minor_version: 2,
            proxy_name: "spawn".into(),
            proxy_version: "1.3.2".into(),
        }),
    };
    message.encode_to_vec().into()
}

/// Encodes the `SpawnResponse` of an accepted request.
pub fn accepted() -> Bytes {
    wire::SpawnResponse { status: Some(status(wire::Status::Ok, "Accepted")) }
        .encode_to_vec()
        .into()
}

/// Encodes an `ActorState`.
pub fn state(state: ActorState) -> Bytes {
    proto_actor_state(state).encode_to_vec().into()
}

/// Encodes a failure, for every route.
///
/// Field 1 of `InvocationResponse`, `SpawnResponse` and `RegistrationResponse` is the same `RequestStatus`. So the bytes decode
/// as an error of each of the three messages (decision 24).
pub fn error(outcome: Outcome, text: impl Into<String>) -> Bytes {
    wire::SpawnResponse { status: Some(status(outcome.status(), text)) }.encode_to_vec().into()
}
