//! Count: how many messages a repeated field has, found in the bytes before anything is decoded.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::Malformed;

/// Refuses a message whose repeated field has too many entries. `path` holds the field numbers that lead to the field, its
/// own last. Bytes that are no message are ignored here: the decoder refuses them.
pub(super) fn check(
    body: &[u8],
    path: &[u32],
    field: &'static str,
    limit: usize,
) -> Result<(), Malformed> {
    let count = count(body, path);
    if count > limit { Err(Malformed::TooMany { field, count, limit }) } else { Ok(()) }
}

fn count(mut bytes: &[u8], path: &[u32]) -> usize {
    let Some((&number, inside)) = path.split_first() else { return 1 };
    let mut found = 0;
    while bytes.has_remaining() {
        let Ok((tag, wire_type)) = decode_key(&mut bytes) else { break };
        if (tag, wire_type) != (number, WireType::LengthDelimited) {
            if skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok());
        let Some((message, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
            break;
        };
        found += count(message, inside);
        bytes = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::eigr::functions::protocol as wire;

    #[test]
    fn entries_are_counted_without_decoding_them() {
        let actors = vec![wire::actors::ActorId { name: "a".into(), ..Default::default() }; 300];
        let spawn = wire::SpawnRequest { actors }.encode_to_vec();
        assert_eq!(count(&spawn, &[1]), 300);
        assert_eq!(count(&spawn, &[2]), 0);
        assert_eq!(check(&spawn, &[1], "f", 300), Ok(()));
        let refused = Malformed::TooMany { field: "f", count: 300, limit: 299 };
        assert_eq!(check(&spawn, &[1], "f", 299), Err(refused));
        assert_eq!(count(&spawn[..spawn.len() - 1], &[1]), 299, "broken off");
    }

    #[test]
    fn entries_inside_other_messages_are_counted_wherever_those_are() {
        let registry = |names: &[&str]| wire::actors::ActorSystem {
            name: "s".into(),
            registry: Some(wire::actors::Registry {
                actors: names
                    .iter()
                    .map(|name| ((*name).into(), wire::actors::Actor::default()))
                    .collect(),
            }),
        };
        let of = |names: &[&str]| wire::RegistrationRequest {
            service_info: Some(wire::ServiceInfo::default()),
            actor_system: Some(registry(names)),
        };
        // Two parts of one message: protobuf merges them.
        let mut body = of(&["a", "b"]).encode_to_vec();
        body.extend(of(&["c"]).encode_to_vec());
        assert_eq!(count(&body, &[2, 2, 1]), 3);
    }
}
