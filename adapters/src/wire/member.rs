//! Member: encodes broadcasts for other members of a system, and decodes theirs.

use bytes::Bytes;
use prost::Message;
use tidegate_stages::ports::MemberBroadcast;

use super::Malformed;
use super::parts::{actor_id, broadcast, proto_actor_id, to_broadcast};
use crate::proto::eigr::functions::protocol as wire;
use crate::proto::tidegate::nats::v1 as proto;

/// Who sent a broadcast, and where it stands among those of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// The proxy that sends it.
    pub publisher: u128,
    /// What counts the messages of this topic there.
    pub stream: u64,
    /// Its number in the stream, from 1.
    pub sequence: u64,
    /// How long ago the first one of the stream was sent.
    pub age_ms: u64,
}

/// Encodes a broadcast, without its trace context.
pub fn encode_member_broadcast(sent: MemberBroadcast, numbered: Numbered) -> Bytes {
    let Numbered { publisher, stream, sequence, age_ms } = numbered;
    let message = proto::Broadcast {
        publisher: Bytes::copy_from_slice(&publisher.to_be_bytes()),
        stream,
        sequence,
        age_ms,
        system: sent.system,
        caller: sent.caller.map(proto_actor_id),
        sent: Some(wire::Broadcast {
            channel_group: sent.topic,
            payload: to_broadcast(sent.payload),
        }),
    };
    message.encode_to_vec().into()
}

/// Reads a broadcast of another member.
///
/// # Errors
/// When the body cannot be decoded, or lacks a part.
pub fn member_broadcast(body: Bytes) -> Result<(MemberBroadcast, Numbered), Malformed> {
    const NAME: &str = "Broadcast";
    let message =
        proto::Broadcast::decode(body).map_err(|error| Malformed::undecodable(NAME, &error))?;
    let publisher = message.publisher[..].try_into().map(u128::from_be_bytes);
    let publisher =
        publisher.map_err(|_| Malformed::wrong("Broadcast.publisher", "has not 16 bytes"))?;
    let missing = Malformed::Missing { message: NAME, field: "sent" };
    let sent = message.sent.ok_or(missing)?;
    let (stream, sequence, age_ms) = (message.stream, message.sequence, message.age_ms);
    let broadcast = MemberBroadcast {
        system: message.system,
        topic: sent.channel_group,
        payload: broadcast(sent.payload),
        caller: message.caller.map(actor_id),
        traceparent: String::new(),
    };
    Ok((broadcast, Numbered { publisher, stream, sequence, age_ms }))
}

#[cfg(test)]
mod tests {
    use tidegate_stages::actor::ActorId;
    use tidegate_stages::invocation::Payload;
    use tidegate_stages::state::Any;

    use super::*;

    #[test]
    fn a_broadcast_is_read_as_it_was_sent() {
        let caller = ActorId { name: "joe".into(), system: "s".into(), parent: String::new() };
        let value = Any { type_url: "t".into(), value: Bytes::from_static(b"1") };
        for (payload, caller) in
            [(Payload::Value(value), Some(caller)), (Payload::Noop, None), (Payload::Unset, None)]
        {
            let (system, topic) = ("s".into(), "news".into());
            let sent =
                MemberBroadcast { system, topic, payload, caller, traceparent: String::new() };
            let numbered =
                Numbered { publisher: u128::MAX - 7, stream: 3, sequence: 1 << 40, age_ms: 9 };
            let body = encode_member_broadcast(sent.clone(), numbered);
            assert_eq!(member_broadcast(body), Ok((sent, numbered)));
        }
        assert!(member_broadcast(Bytes::new()).is_err());
        assert!(member_broadcast(Bytes::from_static(b"abc")).is_err());
    }
}
