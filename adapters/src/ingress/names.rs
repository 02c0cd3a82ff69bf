//! Names: refuses a path to an actor that cannot exist.

use tidegate_stages::actor::check_name;
use tidegate_stages::error::Error;

use super::route::{Outboxes, Resource};

/// Checks the names in a path below `/actors/:actor`. Requests with a body are checked by what the body says.
///
/// # Errors
/// When no system or no actor can have the name.
pub(super) fn check(resource: &Resource<'_>) -> Result<(), Error> {
    let (Resource::Actor { system, name }
    | Resource::History { system, name, .. }
    | Resource::Followed { system, name }
    | Resource::Outboxes(Outboxes::One { system, source: name, .. })) = resource
    else {
        return Ok(());
    };
    for (part, name) in [("system", system), ("actor", name)] {
        check_name(name)
            .map_err(|error| Error::Invalid(format!("the {part} in the path {error}")))?;
    }
    Ok(())
}
