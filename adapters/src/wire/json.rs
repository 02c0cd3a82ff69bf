//! JSON: converts between JSON and domain types (`docs/json.md`).
//!
//! A payload or a state keeps its text: it becomes the content of a `JSONType`, which the SDKs know too. Messages of other types
//! are objects with `@type`: those of known [`Types`] in the JSON form of protobuf, all others in base64. What is written here
//! and read again is the same value.

mod types;
mod request;
mod definition;
mod host;
mod reply;

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};
use serde_json::value::RawValue;
use tidegate_stages::invocation::Payload;
use tidegate_stages::state::Any;

use super::Malformed;
use crate::proto::eigr::functions::protocol::JsonType;

pub use definition::registration;
pub(super) use definition::{DEFAULT_CHANNEL_ACTION, definition, is_definition};
pub use host::{action_request, action_response};
pub use reply::{ANSWERED_BYTES, Problem, answered, invoked, ok, problem, state};
pub use request::{invocation, publication, spawn};
pub use types::{Types, TypesError};

/// Names of the JSON type of the original protocol.
pub(crate) const JSON_TYPES: [&str; 2] = ["eigr.functions.protocol.JSONType", "spawn.JSONType"];
/// The type URL of JSON, as the SDKs write it.
const JSON_URL: &str = "type.googleapis.com/eigr.functions.protocol.JSONType";
/// Deepest nesting of JSON, or of messages.
pub(crate) const DEPTH: usize = 64;

/// Names the type of a message that is not JSON.
const TYPE: &str = "@type";
/// The bytes of a message whose type is not known.
const VALUE: &str = "value";
/// The bytes of a message whose type is known, but not all of its fields.
const BYTES: &str = "@value";

/// Longest text that is told about a mistake.
const TOLD_CHARS: usize = 200;

/// Reads a value: any JSON.
fn read_any(text: &str, types: &Types) -> Result<Any, String> {
    check_depth(text)?;
    let Some(fields) = typed(text) else {
        let value = JsonType { content: text.to_owned() }.encode_to_vec().into();
        return Ok(Any { type_url: JSON_URL.into(), value });
    };
    let type_url = fields.get(TYPE).map_or("null", |url| url.get());
    let type_url: String =
        serde_json::from_str(type_url).map_err(|_| format!("has a {TYPE} that is no text"))?;
    if type_url.is_empty() {
        return Err(format!("has an empty {TYPE}"));
    }
    let is_known = types.knows(&type_url);
    let bytes = fields.get(BYTES).or_else(|| fields.get(VALUE).filter(|_| !is_known));
    match bytes {
        Some(bytes) if fields.len() == 2 => {
            let text: Cow<'_, str> = serde_json::from_str(bytes.get())
                .map_err(|_| format!("has the type {type_url:?} and a value that is no text"))?;
            let value = STANDARD.decode(text.as_bytes()).map_err(|error| {
                format!("has the type {type_url:?} and a value that is no base64: {error}")
            })?;
            Ok(Any { type_url, value: value.into() })
        }
        _ if is_known => types.read(text).map_err(|reason| format!("is no {type_url:?}: {reason}")),
        _ => Err(format!(
            "has the type {type_url:?}, which TIDEGATE_DESCRIPTORS does not name: it needs \"{VALUE}\" in base64, and nothing else"
        )),
    }
}

/// Writes a value.
fn text(any: &Any, types: &Types) -> String {
    if let Some(json) = content(any) {
        return json;
    }
    let is_known = types.knows(&any.type_url);
    if is_known
        && let Ok(text) = types.write(any)
        && check_depth(&text).is_ok()
    {
        return text;
    }
    let (url, field) = (quoted(&any.type_url), if is_known { BYTES } else { VALUE });
    format!(r#"{{"{TYPE}":{url},"{field}":"{}"}}"#, STANDARD.encode(&any.value))
}

/// The JSON in a `JSONType`; `None` for other types, and when another value would be read from it.
fn content(any: &Any) -> Option<String> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if !JSON_TYPES.contains(&name) {
        return None;
    }
    let message = JsonType::decode(any.value.as_ref()).ok()?;
    let is_whole = message.encoded_len() == any.value.len();
    let is_json = is_whole && is_json(&message.content) && typed(&message.content).is_none();
    is_json.then_some(message.content)
}

/// Whether a text is JSON that is not nested too deep.
fn is_json(text: &str) -> bool {
    check_depth(text).is_ok() && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The fields of an object that names its type.
fn typed(text: &str) -> Option<HashMap<Cow<'_, str>, &RawValue>> {
    let text = text.trim_start();
    // A name may be written with escapes.
    let may_be = text.starts_with('{') && (text.contains(TYPE) || text.contains("\\u"));
    let fields: HashMap<Cow<'_, str>, &RawValue> =
        may_be.then(|| serde_json::from_str(text).ok()).flatten()?;
    fields.contains_key(TYPE).then_some(fields)
}

/// Refuses JSON that is nested too deep, before anything recurses into it.
fn check_depth(text: &str) -> Result<(), String> {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > DEPTH {
                    return Err(format!("is nested deeper than {DEPTH}"));
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Reads a payload; absent and `null` are none.
fn payload(given: Option<&RawValue>, types: &Types) -> Result<Payload, String> {
    given.map_or(Ok(Payload::Unset), |given| read_any(given.get(), types).map(Payload::Value))
}

/// Writes a payload; `null` is none.
fn payload_text(payload: &Payload, types: &Types) -> String {
    match payload {
        Payload::Value(value) if !value.is_empty() => text(value, types),
        Payload::Value(_) | Payload::Unset | Payload::Noop => "null".into(),
    }
}

/// Reads a whole body.
pub(super) fn read<'a, T: Deserialize<'a>>(
    body: &'a Bytes,
    what: &'static str,
) -> Result<T, Malformed> {
    serde_json::from_slice(body)
        .map(|Object(read)| read)
        .map_err(|error| Malformed::Undecodable { message: what, reason: told(&error) })
}

/// What is wrong, without what was given: it may be long, and secret.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let told = match text.rsplit_once(", expected ") {
        Some((given, expected)) if given.starts_with("invalid") => {
            format!("a value of the wrong kind, expected {expected}")
        }
        _ => text,
    };
    let place = told.rfind(" at line ").filter(|place| *place > TOLD_CHARS);
    let (told, place) = told.split_at(place.unwrap_or(told.len()));
    let told = told.chars().take(if place.is_empty() { usize::MAX } else { TOLD_CHARS });
    told.chain(place.chars()).map(|sign| if sign.is_control() { ' ' } else { sign }).collect()
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    json(&text)
}

/// Texts, numbers and maps of texts as JSON.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and maps of texts")
}

/// A struct that is read from an object only. What derives `Deserialize` also takes an array, by the order of its fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(AsMap(from)).map(Self)
    }
}

/// Gives maps only, whatever is asked for.
struct AsMap<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AsMap<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// Reads a field that is an [`Object`], or `null`.
pub(super) fn object<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(from)?.map(|Object(read)| read))
}

/// Reads a field that is a list of [`Object`]s, or `null`.
fn objects<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list: Vec<Object<T>> = or_default(from)?;
    Ok(list.into_iter().map(|Object(read)| read).collect())
}

/// Reads a field that may also be `null`.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
