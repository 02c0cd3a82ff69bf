//! Host: the call to a user function in JSON, and its answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_stages::actor::ActorId;
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Broadcast, Invocation, Metadata, Payload, Routing,
    Workflow,
};
use tidegate_stages::request_id::RequestId;
use tidegate_stages::state::{Any, Tags};

use super::{
    Malformed, Types, json, object, objects, or_default, payload, payload_text, read, read_any,
    text,
};

/// Names of an actor.
#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    system: &'a str,
    parent: &'a str,
}

impl<'a> Named<'a> {
    fn of(id: &'a ActorId) -> Self {
        Self { name: &id.name, system: &id.system, parent: &id.parent }
    }
}

/// Encodes the call of an action.
pub fn action_request(invocation: &ActorInvocation, types: &Types) -> Bytes {
    let ActorInvocation { action, tags, metadata, actor, caller, .. } = invocation;
    let mut itself = Named::of(actor);
    if !invocation.self_has_parent {
        itself.parent = "";
    }
    let state = invocation.state.as_ref().map_or_else(|| "null".into(), |state| text(state, types));
    let parts = [
        ("action", json(action)),
        ("payload", payload_text(&invocation.payload, types)),
        ("state", state),
        ("tags", json(tags)),
        ("metadata", json(metadata)),
        ("self", json(&itself)),
        ("caller", json(&caller.as_ref().map(Named::of))),
    ];
    let bytes = parts.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    let mut body = String::with_capacity(bytes + 1);
    for (name, value) in parts {
        body.push_str(if body.is_empty() { "{\"" } else { ",\"" });
        body.push_str(name);
        body.push_str("\":");
        body.push_str(&value);
    }
    body.push('}');
    body.into()
}

/// The answer of an action. Absent is not the same as `null` for the state.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    #[serde(default, rename = "self", deserialize_with = "object")]
    itself: Option<Itself>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    state: Option<&'a RawValue>,
    #[serde(default)]
    tags: Option<Tags>,
    #[serde(borrow, default, deserialize_with = "objects")]
    effects: Vec<Effect<'a>>,
    #[serde(default, deserialize_with = "object")]
    pipe: Option<Target>,
    #[serde(default, deserialize_with = "object")]
    forward: Option<Target>,
    #[serde(borrow, default, deserialize_with = "object")]
    broadcast: Option<Sent<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    checkpoint: bool,
}

/// The actor that an answer is of, as the call had it. An empty name names none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Itself {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    system: String,
    #[serde(default, rename = "parent", deserialize_with = "or_default")]
    _parent: String,
}

impl Itself {
    fn is(&self, asked: &ActorId) -> bool {
        (self.name.is_empty() || self.name == asked.name)
            && (self.system.is_empty() || self.system == asked.system)
    }
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Effect<'a> {
    actor: String,
    #[serde(default, deserialize_with = "or_default")]
    system: String,
    action: String,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    register_ref: String,
    #[serde(default, deserialize_with = "or_default")]
    scheduled_to: i64,
    #[serde(default, deserialize_with = "or_default")]
    pooled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    actor: String,
    action: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    channel: String,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads the answer of the actor `asked`; `tags` are those that it was called with. An empty body changes nothing.
///
/// # Errors
/// When the body is no such answer, or one of another actor; the text repeats nothing of its values.
pub fn action_response(
    body: &Bytes,
    asked: &ActorId,
    tags: Tags,
    types: &Types,
) -> Result<ActorInvocationResponse, Malformed> {
    let is_empty = body.iter().all(u8::is_ascii_whitespace);
    let answer: Answer<'_> = if is_empty { Answer::default() } else { read(body, "answer")? };
    if answer.itself.as_ref().is_some_and(|itself| !itself.is(asked)) {
        return Err(Malformed::wrong("self", "is another one's"));
    }
    let wrong = |field: &'static str| move |reason: String| Malformed::wrong(field, reason);
    let state = match answer.state {
        None => None,
        // An empty one removes it.
        Some(null) if null.get() == "null" => Some(Any::default()),
        Some(state) => Some(read_any(state.get(), types).map_err(wrong("state"))?),
    };
    let routing = match (answer.pipe, answer.forward) {
        (None, None) => None,
        (Some(Target { actor, action }), None) => Some(Routing::Pipe { actor, action }),
        (None, Some(Target { actor, action })) => Some(Routing::Forward { actor, action }),
        (Some(_), Some(_)) => return Err(Malformed::wrong("pipe", "stands beside forward")),
    };
    let effects = answer.effects.into_iter().map(|given| effect(given, asked, types));
    let broadcast = |sent: Sent<'_>| {
        Ok(Broadcast { channel: sent.channel, payload: payload(sent.payload, types)? })
    };
    Ok(ActorInvocationResponse {
        state,
        tags: answer.tags.unwrap_or(tags),
        payload: payload(answer.payload, types).map_err(wrong("payload"))?,
        workflow: Workflow {
            effects: effects.collect::<Result<_, _>>().map_err(wrong("effects"))?,
            broadcast: answer
                .broadcast
                .map(broadcast)
                .transpose()
                .map_err(wrong("broadcast.payload"))?,
            routing,
        },
        checkpoint: answer.checkpoint,
    })
}

fn effect(given: Effect<'_>, from: &ActorId, types: &Types) -> Result<Invocation, String> {
    let payload: Payload = payload(given.payload, types)?;
    let system = if given.system.is_empty() { from.system.clone() } else { given.system };
    Ok(Invocation {
        actor: ActorId { name: given.actor, system, parent: String::new() },
        action: given.action,
        payload,
        metadata: given.metadata,
        identity: Identity::default(),
        request: RequestId::None,
        caller: Some(from.clone()),
        asynchronous: true,
        register_ref: given.register_ref,
        scheduled_to: given.scheduled_to,
        pooled: given.pooled,
        traceparent: String::new(),
    })
}
