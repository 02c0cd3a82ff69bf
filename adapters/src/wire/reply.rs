//! Reply: encodes responses to callers.

use bytes::Bytes;
use prost::Message;
use tidegate_stages::invocation::Payload;
use tidegate_stages::state::ActorState;

use super::parts::{proto_actor_state, to_reply};
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
#[derive(Clone, PartialEq, Message)]
struct InvokedFrame {
    #[prost(message, optional, tag = "1")]
    status: Option<wire::RequestStatus>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    system: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    actor: Option<Bytes>,
    #[prost(oneof = "wire::invocation_response::Payload", tags = "4, 5")]
    payload: Option<wire::invocation_response::Payload>,
}

fn status(status: wire::Status, message: impl Into<String>) -> wire::RequestStatus {
    wire::RequestStatus { status: status.into(), message: message.into() }
}

/// The status of a success.
pub(super) fn ok() -> wire::RequestStatus {
    status(wire::Status::Ok, "")
}

/// Encodes the `InvocationResponse` of a call that succeeded, or of an asynchronous call that was accepted.
pub fn invoked(echo: Echo, payload: Payload) -> Bytes {
    let frame = InvokedFrame {
        status: Some(ok()),
        system: Some(echo.system),
        actor: Some(echo.actor),
        payload: to_reply(payload),
    };
    frame.encode_to_vec().into()
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
