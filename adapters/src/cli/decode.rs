//! Decode: shows a state to people: as JSON if its type is known, otherwise as hex.
//!
//! Nothing is left out silently: a message with unknown fields is shown as hex, and JSON stored as text is
//! indented without parsing its numbers. Control characters never reach the terminal.

use std::fmt::Write;
use std::path::Path;

use prost::Message;

use crate::app::StartError;
use crate::proto::eigr::functions::protocol::JsonType;
use crate::wire::Blob;
use crate::wire::json::{DEPTH, JSON_TYPES, Types, TypesError};

/// Package of the well-known types.
const WELL_KNOWN: &str = "google.protobuf.";
/// Bytes in a line of hex.
const HEX_LINE: usize = 32;

/// A state as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Why the state is shown as hex; `None` when it is decoded.
    pub(super) why_hex: Option<String>,
    pub(super) lines: Vec<String>,
}

/// The known types of states.
#[derive(Debug)]
pub(super) struct Decoder(Types);

impl Decoder {
    /// Loads the well-known types, and the types of a `FileDescriptorSet` in a file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no such set.
    pub(super) fn new(descriptor: Option<&Path>) -> Result<Self, StartError> {
        Types::load(descriptor).map(Self).map_err(|error| match error {
            TypesError::Unreadable(path, error) => {
                let doing = format!("cannot read {}", path.display());
                StartError::File { doing, error }
            }
            TypesError::Unusable(..) => StartError::Format(error.to_string()),
        })
    }

    /// Formats a state.
    pub(super) fn show(&self, state: &Blob) -> Shown {
        match self.decode(state) {
            Ok(text) => {
                Shown { why_hex: None, lines: plain(&text).lines().map(Into::into).collect() }
            }
            Err(why) => Shown { why_hex: Some(one_line(&why)), lines: hex(&state.value) },
        }
    }

    fn decode(&self, state: &Blob) -> Result<String, String> {
        let name = state.type_url.rsplit('/').next().unwrap_or_default();
        if JSON_TYPES.contains(&name) {
            return json_type(&state.value);
        }
        if !self.0.knows(&state.type_url) {
            return Err(if name.starts_with(WELL_KNOWN) {
                "no such well-known type".to_owned()
            } else {
                "its type is not known, --descriptor tells it".to_owned()
            });
        }
        let message = self.0.whole(name, &state.value)?;
        let value = serde_json::to_value(&message).map_err(|error| error.to_string())?;
        serde_json::to_string_pretty(&value).map_err(|error| error.to_string())
    }
}

fn json_type(bytes: &[u8]) -> Result<String, String> {
    let message = JsonType::decode(bytes).map_err(|error| error.to_string())?;
    if message.encode_to_vec() != bytes {
        return Err("it has more than the content of a JSONType".into());
    }
    lay_out(&message.content).ok_or_else(|| "its content is no JSON that can be laid out".into())
}

/// Indents JSON; returns `None` for any other text. Keys keep their order and numbers every digit.
fn lay_out(text: &str) -> Option<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut signs = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(sign) = signs.next() {
        if in_text {
            out.push(sign);
            in_text = is_escaped || sign != '"';
            is_escaped = !is_escaped && sign == '\\';
            continue;
        }
        match sign {
            ' ' | '\n' | '\t' | '\r' => {}
            '{' | '[' => {
                out.push(sign);
                while signs.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = signs.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth = Some(depth + 1).filter(|depth| *depth <= DEPTH)?;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.checked_sub(1)?;
                line(&mut out, depth);
                out.push(sign);
            }
            ',' => {
                out.push(sign);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_text = true;
                out.push(sign);
            }
            other => out.push(other),
        }
    }
    Some(out)
}

fn hex(bytes: &[u8]) -> Vec<String> {
    let line = |chunk: &[u8]| {
        chunk.iter().fold(String::with_capacity(2 * HEX_LINE), |mut line, byte| {
            write!(line, "{byte:02x}").expect("a string takes everything");
            line
        })
    };
    bytes.chunks(HEX_LINE).map(line).collect()
}

/// Escapes control characters except line ends, because a terminal would execute them.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        if sign.is_control() && sign != '\n' {
            write!(out, "\\u{:04x}", u32::from(sign)).expect("a string takes everything");
        } else {
            out.push(sign);
        }
    }
    out
}

/// As [`plain`], in one line.
pub(super) fn one_line(text: &str) -> String {
    plain(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
