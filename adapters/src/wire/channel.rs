//! Channel: decodes what a client publishes, and encodes whom it reached.

use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use tidegate_stages::invocation::{Broadcast, Reached};

use super::history::json;
use super::parts::broadcast;
use super::reply::ok;
use super::{Form, Malformed};
use crate::proto::eigr::functions::protocol as wire;
use crate::proto::tidegate::api::v1 as proto;

/// Reads the `Broadcast` that a client publishes to a topic. An empty body is a message without payload.
///
/// # Errors
/// When the body cannot be decoded, or names another channel than the path.
pub fn publication(body: Bytes, topic: &str) -> Result<Broadcast, Malformed> {
    let message = wire::Broadcast::decode(body)
        .map_err(|error| Malformed::undecodable("Broadcast", &error))?;
    if !message.channel_group.is_empty() && message.channel_group != topic {
        return Err(Malformed::wrong("Broadcast.channel_group", "is another one than in the path"));
    }
    Ok(Broadcast { channel: topic.into(), payload: broadcast(message.payload) })
}

/// Encodes whom a publication reached.
pub fn published(reached: Reached, form: Form) -> Bytes {
    #[derive(Serialize)]
    struct Published {
        subscribers: u64,
        dropped: u64,
    }
    let Reached { subscribers, dropped } = reached;
    match form {
        Form::Json => json(&Published { subscribers, dropped }),
        Form::Protobuf => {
            proto::Published { status: Some(ok()), subscribers, dropped }.encode_to_vec().into()
        }
    }
}
