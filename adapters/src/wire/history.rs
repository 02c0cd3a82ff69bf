//! History: encodes entries of an actor's history as JSON and as protobuf.

use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use tidegate_stages::history_reader::StateAt;
use tidegate_stages::state::{ActorState, Checkpoint, Revision, Status, Tags, Timestamp};

use crate::moment;
use crate::proto::google::protobuf as well_known;
use crate::proto::tidegate::api::v1 as proto;

/// The encoding of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON.
    Json,
    /// As a message of `tidegate.api.v1`.
    Protobuf,
}

/// One entry of a history, as JSON shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The revision's number; 0 for an empty history.
    pub revision: u64,
    /// When the entry was written, as RFC 3339.
    pub at: Option<String>,
    /// `ACTIVATED`, `DEACTIVATED` or `UNKNOWN`.
    pub status: String,
    /// The tags of the actor.
    pub tags: Tags,
    /// The state of the actor, if any.
    pub state: Option<Blob>,
    /// Whether this is certainly the state at the requested time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// `at` in microseconds, not part of the JSON.
    #[serde(skip)]
    at_us: Option<u64>,
}

/// A state: a type URL and the encoded message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Type URL, verbatim.
    pub type_url: String,
    /// The encoded message; base64 in JSON.
    #[serde(with = "in_base64")]
    pub value: Bytes,
}

/// A page of a history, as JSON shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The entries, ascending.
    pub revisions: Vec<Entry>,
    /// The `next` parameter for the following entries.
    pub next: Option<String>,
}

impl Entry {
    fn new(revision: u64, at: Option<Timestamp>, status: Status, content: ActorState) -> Self {
        let status = match status {
            Status::Activated => proto::Status::Activated,
            Status::Deactivated => proto::Status::Deactivated,
            Status::Unknown => proto::Status::Unknown,
        };
        Self {
            revision,
            at: at.map(moment::show),
            status: status.as_str_name().into(),
            tags: content.tags,
            state: content.state.map(|state| Blob { type_url: state.type_url, value: state.value }),
            exact: None,
            at_us: at.map(|at| at.0),
        }
    }

    /// Sets the field `exact`.
    #[must_use]
    pub fn exact(self, exact: bool) -> Self {
        Self { exact: Some(exact), ..self }
    }

    fn into_message(self) -> proto::Revision {
        let at = self.at_us.map(|us| well_known::Timestamp {
            seconds: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
            nanos: i32::try_from(us % 1_000_000 * 1_000).expect("less than a second"),
        });
        let state = self.state.map(|Blob { type_url, value }| well_known::Any { type_url, value });
        let status = proto::Status::from_str_name(&self.status).unwrap_or_default();
        proto::Revision {
            revision: self.revision,
            at,
            status: status.into(),
            tags: self.tags,
            state,
            exact: self.exact,
        }
    }

    /// Encodes the entry.
    pub fn encode(self, form: Form) -> Bytes {
        match form {
            Form::Json => json(&self),
            Form::Protobuf => self.into_message().encode_to_vec().into(),
        }
    }
}

impl Listing {
    /// Encodes the page.
    pub fn encode(self, form: Form) -> Bytes {
        match form {
            Form::Json => json(&self),
            Form::Protobuf => proto::Revisions {
                revisions: self.revisions.into_iter().map(Entry::into_message).collect(),
                next: self.next.unwrap_or_default(),
            }
            .encode_to_vec()
            .into(),
        }
    }
}

impl From<Revision> for Entry {
    fn from(entry: Revision) -> Self {
        Self::new(entry.revision, Some(entry.at), entry.status, entry.content)
    }
}

impl From<StateAt> for Entry {
    fn from(then: StateAt) -> Self {
        Self::from(then.revision).exact(then.exact)
    }
}

impl From<Checkpoint> for Entry {
    fn from(kept: Checkpoint) -> Self {
        Self::new(kept.revision, kept.at, Status::Activated, kept.content)
    }
}

pub(super) fn json(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).expect("texts, numbers and maps of texts");
    text.push(b'\n');
    text.into()
}

mod in_base64 {
    use base64::Engine;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::STANDARD;

    pub(super) fn serialize<S: Serializer>(value: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes::from).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_stages::state::Any;

    use super::*;

    fn entry() -> Entry {
        let state = Some(Any { type_url: "t/x".into(), value: Bytes::from_static(b"\0\xff") });
        let tags = Tags::from([("k".into(), "v".into())]);
        Entry::new(
            3,
            Some(Timestamp(1_769_860_800_500_001)),
            Status::Deactivated,
            ActorState { tags, state },
        )
    }

    #[test]
    fn json_has_the_documented_shape() {
        let text = r#"{"revision":3,"at":"2026-01-31T12:00:00.500001Z","status":"DEACTIVATED","tags":{"k":"v"},"state":{"type_url":"t/x","value":"AP8="}}"#;
        assert_eq!(entry().encode(Form::Json), format!("{text}\n"));
        let exact = entry().exact(true).encode(Form::Json);
        assert!(exact.ends_with(b",\"exact\":true}\n"));
        let none = Entry::from(Checkpoint::default()).encode(Form::Json);
        let text = r#"{"revision":0,"at":null,"status":"ACTIVATED","tags":{},"state":null}"#;
        assert_eq!(none, format!("{text}\n"));
        let listing = Listing { revisions: vec![], next: None }.encode(Form::Json);
        assert_eq!(listing, "{\"revisions\":[],\"next\":null}\n");
    }

    #[test]
    fn protobuf_says_the_same() {
        let bytes = entry().exact(false).encode(Form::Protobuf);
        let message = proto::Revision::decode(bytes).unwrap();
        let at = message.at.unwrap();
        assert_eq!((message.revision, at.seconds, at.nanos), (3, 1_769_860_800, 500_001_000));
        assert_eq!(message.status, proto::Status::Deactivated as i32);
        assert_eq!((message.exact, message.state.unwrap().value.len()), (Some(false), 2));
        let listing = Listing { revisions: vec![entry()], next: Some("n".into()) };
        let message = proto::Revisions::decode(listing.encode(Form::Protobuf)).unwrap();
        assert_eq!((message.revisions.len(), message.next.as_str()), (1, "n"));
    }
}
