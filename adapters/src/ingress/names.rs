//! Names: refuses a path with a name that nothing can have.

use http::request;
use tidegate_stages::actor::check_name;
use tidegate_stages::error::Error;

use super::accept;
use super::route::{Channels, Outboxes, Resource, Which};
use crate::wire::Form;

/// Checks the names in a path, where they count: a body of protobuf names actors itself. [`of_call`] does it for calls.
///
/// # Errors
/// When no system, actor, topic or schedule can have the name.
pub(super) fn check(resource: &Resource<'_>, head: &request::Parts) -> Result<(), Error> {
    match resource {
        Resource::Actor { system, name }
        | Resource::History { system, name, .. }
        | Resource::Followed { system, name }
        | Resource::Outboxes(Outboxes::One { system, source: name, .. }) => {
            all([("system", system), ("actor", name)])
        }
        Resource::Channel { system, topic }
        | Resource::Channels(Channels::Subscribers { system, topic }) => {
            all([("system", system), ("topic", topic)])
        }
        Resource::Schedules { system, which } => match which {
            Which::One(name) | Which::Change(name, _) => {
                all([("system", system), ("schedule", name)])
            }
            Which::All => all([("system", system)]),
        },
        Resource::Hosts { system } | Resource::Host { system, .. } => all([("system", system)]),
        Resource::Spawn { system } if accept::content_form(&head.headers) == Some(Form::Json) => {
            all([("system", system)])
        }
        _ => Ok(()),
    }
}

/// Checks the names in the path of a call whose body names no actor, as JSON does not.
///
/// # Errors
/// When no system or no actor can have the name.
pub(super) fn of_call(system: &str, name: &str) -> Result<(), Error> {
    if [system, name].iter().any(|part| part.contains(char::REPLACEMENT_CHARACTER)) {
        return Err(Error::Invalid("a name in the path is not UTF-8".into()));
    }
    all([("system", system), ("actor", name)])
}

fn all<const N: usize>(names: [(&str, &str); N]) -> Result<(), Error> {
    for (part, name) in names {
        check_name(name)
            .map_err(|error| Error::Invalid(format!("the {part} in the path {error}")))?;
    }
    Ok(())
}
