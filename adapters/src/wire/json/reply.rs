//! Reply: what callers get.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_stages::invocation::Payload;
use tidegate_stages::state::ActorState;

use super::{Types, is_json, json, payload_text, text};

/// What of the body of an action that failed reaches its caller.
pub const ANSWERED_BYTES: usize = 64 * 1024;

/// A failure (RFC 9457).
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    /// What stands in the place of a page about it.
    pub r#type: &'static str,
    /// What its status is called.
    pub title: &'static str,
    /// Its status.
    pub status: u16,
    /// What happened.
    pub detail: &'a str,
    /// The same, as clients of earlier versions find it.
    pub error: &'a str,
    /// What it is, in a word that stays.
    pub kind: &'static str,
    /// Who failed.
    #[serde(rename = "tidegate-error-source")]
    pub source: &'static str,
    /// Whether the action certainly did not run, and the same call may succeed later.
    pub safe_to_retry: bool,
    /// What the action answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
}

/// Encodes a failure.
pub fn problem(problem: &Problem<'_>) -> Bytes {
    line(json(problem))
}

/// What an action answered, for [`Problem::body`]: its JSON, or its text.
pub fn answered(body: &Bytes) -> Option<Box<RawValue>> {
    let text = String::from_utf8_lossy(body);
    let text = if is_json(&text) { text.into_owned() } else { json(&text) };
    RawValue::from_string(text).ok().filter(|_| !body.is_empty())
}

/// Encodes the answer of a call that succeeded, or was accepted.
pub fn invoked(payload: &Payload, types: &Types) -> Bytes {
    line(format!(r#"{{"payload":{}}}"#, payload_text(payload, types)))
}

/// Encodes that a request without another answer was carried out.
pub fn ok() -> Bytes {
    Bytes::from_static(b"{\"status\":\"OK\"}\n")
}

/// Encodes an actor's state.
pub fn state(content: &ActorState, types: &Types) -> Bytes {
    let state = content.state.as_ref().map_or_else(|| "null".into(), |state| text(state, types));
    line(format!(r#"{{"state":{state},"tags":{}}}"#, json(&content.tags)))
}

fn line(mut text: String) -> Bytes {
    text.push('\n');
    text.into()
}
