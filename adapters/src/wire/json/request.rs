//! Request: what callers send.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tidegate_stages::actor::ActorId;
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{Broadcast, Invocation, Metadata, Spawn};
use tidegate_stages::request_id::RequestId;

use super::{Malformed, Object, Types, or_default, payload, read};

/// A call. Its path names system and actor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call<'a> {
    action: String,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default, rename = "async", deserialize_with = "or_default")]
    asynchronous: bool,
    #[serde(default, deserialize_with = "or_default")]
    scheduled_to: i64,
    #[serde(default, deserialize_with = "or_default")]
    register_ref: String,
    #[serde(default, deserialize_with = "or_default")]
    pooled: bool,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
}

/// Reads a call of `actor` in `system`.
///
/// # Errors
/// When the body is no such call; the text says where.
pub fn invocation(
    body: &Bytes,
    (system, actor): (&str, &str),
    types: &Types,
) -> Result<Invocation, Malformed> {
    let call: Call<'_> = read(body, "call")?;
    Ok(Invocation {
        actor: ActorId { name: actor.into(), system: system.into(), parent: String::new() },
        action: call.action,
        payload: payload(call.payload, types).map_err(|why| Malformed::wrong("payload", why))?,
        metadata: call.metadata,
        identity: Identity::default(),
        request: RequestId::None,
        caller: None,
        asynchronous: call.asynchronous,
        register_ref: call.register_ref,
        scheduled_to: call.scheduled_to,
        pooled: call.pooled,
        traceparent: String::new(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spawned<'a> {
    #[serde(borrow)]
    actors: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    parent: String,
}

/// Reads a spawn of at most so many actors in `system`.
///
/// # Errors
/// When the body is no spawn, or names too many actors.
pub fn spawn(
    body: &Bytes,
    system: &str,
    revision: Option<u64>,
    max_actors: usize,
) -> Result<Spawn, Malformed> {
    let Spawned { actors } = read(body, "spawn")?;
    check_count(actors, max_actors)?;
    let actors: Vec<Object<Named>> = serde_json::from_str(actors.get()).map_err(|error| {
        Malformed::wrong("actors", format!("is wrong: {}", super::told(&error)))
    })?;
    let id = |Object(Named { name, parent })| ActorId { name, system: system.into(), parent };
    Ok(Spawn { actors: actors.into_iter().map(id).collect(), revision })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published<'a> {
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads what a client publishes to a topic. An empty body is a message without payload.
///
/// # Errors
/// When the body is no publication.
pub fn publication(body: &Bytes, topic: &str, types: &Types) -> Result<Broadcast, Malformed> {
    let published: Published<'_> =
        if body.is_empty() { Published::default() } else { read(body, "publication")? };
    let payload =
        payload(published.payload, types).map_err(|why| Malformed::wrong("payload", why))?;
    Ok(Broadcast { channel: topic.into(), payload })
}

/// Refuses a list with too many actors before any is read.
pub(super) fn check_count(actors: &RawValue, limit: usize) -> Result<(), Malformed> {
    struct Count;
    impl<'de> Visitor<'de> for Count {
        type Value = usize;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while list.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            Ok(count)
        }
    }
    let count = serde_json::Deserializer::from_str(actors.get()).deserialize_seq(Count).map_err(
        |error| Malformed::wrong("actors", format!("is wrong: {}", super::told(&error))),
    )?;
    if count > limit { Err(Malformed::TooMany { field: "actors", count, limit }) } else { Ok(()) }
}
