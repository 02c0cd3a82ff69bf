//! Check: refuses a call that makes no sense, and finds its definition. Changes nothing.

use std::sync::Arc;

use crate::actor::check_name;
use crate::call::{Checked, Request};
use crate::error::Error;
use crate::filter::Predicate;
use crate::ports::Clock;
use crate::registry::entry::Hosted;
use crate::registry::registration::Registrar;

/// Lets calls pass that can be run.
#[derive(Debug)]
pub(crate) struct Check {
    /// Knows who is registered.
    pub(crate) registrar: Registrar,
    /// Says whether a call is scheduled for later.
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether such calls are taken.
    pub(crate) delayed_calls: bool,
}

impl Predicate<Request> for Check {
    type Passed = Checked;

    /// # Errors
    /// When a name is not allowed, the actor, its definition or the action is unknown, or the call needs what is not
    /// built yet.
    fn check(&self, request: Request) -> Result<Checked, Error> {
        let Request { invocation, origin } = request;
        let id = &invocation.actor;
        for (part, name) in [("actor.id.name", &id.name), ("system.name", &id.system)] {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        if !self.delayed_calls && invocation.is_due_after(self.clock.now()) {
            let text = "calls for a later time are switched off (SPAWN_DELAYED_INVOKES)";
            return Err(Error::Unsupported(text.into()));
        }
        let (entry, to_spawn) = self.registrar.find(&invocation)?;
        entry.with_hosted(|Hosted { definition, .. }| {
            if definition.actions.is_empty() && definition.timers.is_empty() {
                let name = &id.name;
                let text =
                    format!("Actor [{name}] has registered no action: no call of it is allowed");
                return Err(Error::Forbidden(text));
            }
            if !definition.knows(&invocation.action) {
                let (actor, action) = (id.name.clone(), invocation.action.clone());
                return Err(Error::ActionNotFound { actor, action });
            }
            Ok(())
        })?;
        Ok(Checked { invocation, origin, entry, to_spawn })
    }
}
