//! Types: the messages that can be written as JSON of their own, from descriptors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use prost::Message;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
use tidegate_stages::state::Any;

use super::DEPTH;
use crate::proto::google::protobuf as well_known;

const ANY: &str = "google.protobuf.Any";

/// Known types of messages: the well-known ones, and those of a `FileDescriptorSet`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Types(DescriptorPool);

impl Default for Types {
    fn default() -> Self {
        Self(DescriptorPool::global())
    }
}

/// Why descriptors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TypesError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is no set of descriptors.
    #[error(
        "{0} is no usable FileDescriptorSet (protoc --include_imports --descriptor_set_out={0} …): {1}"
    )]
    Unusable(PathBuf, String),
}

impl Types {
    /// Loads the well-known types, and the types of a `FileDescriptorSet` in a file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no such set.
    pub fn load(descriptors: Option<&Path>) -> Result<Self, TypesError> {
        let Some(path) = descriptors else { return Ok(Self::default()) };
        let bytes =
            std::fs::read(path).map_err(|error| TypesError::Unreadable(path.to_owned(), error))?;
        Self::of(&bytes).map_err(|reason| TypesError::Unusable(path.to_owned(), reason))
    }

    /// The well-known types and those of an encoded `FileDescriptorSet`.
    pub(crate) fn of(set: &[u8]) -> Result<Self, String> {
        with_set(&DescriptorPool::global(), set).map(Self)
    }

    /// Whether the type of an `Any` is known.
    pub(crate) fn knows(&self, type_url: &str) -> bool {
        let name = type_url.rsplit_once('/').map(|(_, name)| name);
        name.is_some_and(|name| self.0.get_message_by_name(name).is_some())
    }

    /// Reads the JSON form of an `Any` of a known type.
    pub(super) fn read(&self, text: &str) -> Result<Any, String> {
        let form = self.0.get_message_by_name(ANY).ok_or("the type Any is not known")?;
        let mut from = serde_json::Deserializer::from_str(text);
        let message =
            DynamicMessage::deserialize(form, &mut from).map_err(|error| super::told(&error))?;
        let any: well_known::Any = message.transcode_to().map_err(|error| error.to_string())?;
        Ok(Any { type_url: any.type_url, value: any.value })
    }

    /// Writes the JSON form of an `Any`. Fails if it would lose anything.
    pub(super) fn write(&self, any: &Any) -> Result<String, String> {
        let form = self.0.get_message_by_name(ANY).ok_or("the type Any is not known")?;
        let any = well_known::Any { type_url: any.type_url.clone(), value: any.value.clone() };
        let message = DynamicMessage::decode(form, any.encode_to_vec().as_slice())
            .map_err(|error| error.to_string())?;
        self.look(&message, DEPTH)?;
        serde_json::to_string(&message).map_err(|error| error.to_string())
    }

    /// Decodes a message; fails if any field is unknown, also inside its `Any` values.
    pub(crate) fn whole(&self, name: &str, bytes: &[u8]) -> Result<DynamicMessage, String> {
        self.decoded(name, bytes, DEPTH)
    }

    fn decoded(&self, name: &str, bytes: &[u8], depth: usize) -> Result<DynamicMessage, String> {
        let known = self.0.get_message_by_name(name).ok_or("a type in it is not known")?;
        let message = DynamicMessage::decode(known, bytes).map_err(|error| error.to_string())?;
        self.look(&message, depth)?;
        Ok(message)
    }

    fn look(&self, message: &DynamicMessage, depth: usize) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or("its messages are nested too deep")?;
        if message.unknown_fields().next().is_some() {
            let name = message.descriptor().full_name().to_owned();
            return Err(format!("it has fields that {name} as known here has not"));
        }
        if message.descriptor().full_name() == ANY {
            let any: well_known::Any = message.transcode_to().map_err(|error| error.to_string())?;
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            return self.decoded(name, &any.value, depth).map(drop);
        }
        message.fields().try_for_each(|(_, value)| self.look_into(value, depth))
    }

    fn look_into(&self, value: &Value, depth: usize) -> Result<(), String> {
        match value {
            Value::Message(message) => self.look(message, depth),
            Value::List(values) => values.iter().try_for_each(|value| self.look_into(value, depth)),
            Value::Map(values) => {
                values.values().try_for_each(|value| self.look_into(value, depth))
            }
            _ => Ok(()),
        }
    }
}

/// Adds a set to the well-known types; the set may contain these types too.
fn with_set(well_known: &DescriptorPool, bytes: &[u8]) -> Result<DescriptorPool, String> {
    let mut set = FileDescriptorSet::decode(bytes).map_err(|error| error.to_string())?;
    set.file.retain(|file| well_known.get_file_by_name(file.name()).is_none());
    let is_known = |file: &&FileDescriptorProto| matches!(file.syntax(), "" | "proto2" | "proto3");
    if let Some(other) = set.file.iter().find(|file| !is_known(file)) {
        return Err(format!(
            "{:?} has syntax {:?}; proto2 and proto3 are understood",
            other.name(),
            other.syntax()
        ));
    }
    set.file.extend(well_known.file_descriptor_protos().cloned());
    // The library panics on some contradictory sets (prost-reflect 0.16.5).
    let built = catch_unwind(AssertUnwindSafe(|| DescriptorPool::from_file_descriptor_set(set)));
    built.map_err(|_| "it contradicts itself".to_owned())?.map_err(|error| error.to_string())
}
