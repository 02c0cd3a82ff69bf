//! JSON: what the answer of a host of JSON means. The status decides whether the action succeeded.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tidegate_stages::actor::{ActorId, HostAddress};
use tidegate_stages::invocation::ActorInvocationResponse;
use tidegate_stages::ports::HostError;
use tidegate_stages::state::Tags;

use super::Reply;
use crate::wire::json::{ANSWERED_BYTES, Types, action_response};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Reads a reply to the call of `asked`, which had these tags.
pub(super) fn answer(
    address: &HostAddress,
    reply: Reply,
    (asked, tags): (&ActorId, Tags),
    types: &Types,
) -> Result<ActorInvocationResponse, HostError> {
    let Reply { status, body, .. } = reply;
    let address = || address.to_string();
    if status.is_client_error() || status.is_server_error() {
        let body = if body.len() > ANSWERED_BYTES {
            Bytes::copy_from_slice(body.get(..ANSWERED_BYTES).unwrap_or_default())
        } else {
            body
        };
        return Err(HostError::Rejected { address: address(), status: status.as_u16(), body });
    }
    let garbled = |what: String| {
        let answer = format!("HTTP {} with {what}", status.as_u16());
        HostError::Garbled { address: address(), answer }
    };
    if !(StatusCode::OK..StatusCode::MULTIPLE_CHOICES).contains(&status) {
        return Err(garbled("no answer of an action: it has to be 200 to 299".into()));
    }
    action_response(&body, asked, tags, types)
        .map_err(|malformed| garbled(format!("no answer of an action: {malformed}")))
}
