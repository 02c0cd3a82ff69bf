//! Elsewhere: calls for systems that are not registered here.
//!
//! A system that is registered here is served here. A call for any other system goes to the port [`OtherSystems`], once. A call
//! that came from another system never goes out again.

use std::sync::Arc;
use std::time::Duration;

use crate::access::CurrentPolicies;
use crate::actor::check_name;
use crate::call::Request;
use crate::caller::Allow;
use crate::error::{Error, ErrorKind};
use crate::filter::Predicate;
use crate::identity::PeerAddress;
use crate::invocation::{Invocation, Payload, REQUEST_TIMEOUT};
use crate::ports::OtherSystems;
use crate::registry::directory::Directory;
use crate::reply::Deadlines;

/// Where such calls go; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    systems: Arc<dyn OtherSystems>,
    directory: Arc<Directory>,
    allow: Allow,
    limit: Duration,
}

impl Elsewhere {
    /// With `None`, all calls are served here.
    pub(crate) fn new(
        systems: Option<Arc<dyn OtherSystems>>,
        directory: &Arc<Directory>,
        policies: &CurrentPolicies,
        deadlines: &Deadlines,
    ) -> Self {
        Self(systems.map(|systems| {
            // The other system has these times, too.
            let limit = deadlines.start + deadlines.host + deadlines.commit;
            let allow = Allow { policies: policies.clone() };
            Arc::new(Inner { systems, directory: directory.clone(), allow, limit })
        }))
    }

    /// Whether a call goes to another system.
    pub(crate) fn takes(&self, invocation: &Invocation) -> bool {
        self.0.as_ref().is_some_and(|inner| {
            invocation.identity.peer != Some(PeerAddress::Nats)
                && inner.directory.registered_in(&invocation.actor.system) == 0
        })
    }

    /// Sends a call that it [takes](Self::takes).
    ///
    /// # Errors
    /// When its names or its metadata are not allowed, the policies refuse it, or it fails there or on its way.
    pub(crate) async fn call(&self, request: Request) -> Result<Payload, Error> {
        let inner = self.0.as_ref().ok_or_else(|| Error::Internal("no other systems".into()))?;
        let Request { invocation, .. } = inner.allow.check(request)?;
        let id = &invocation.actor;
        for (part, name) in [("actor.id.name", &id.name), ("system.name", &id.system)] {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        let limit = invocation.whole_limit().unwrap_or(inner.limit);
        inner.systems.call(invocation, limit).await
    }

    /// Brings an effect to its target. An error of its action is an answer, and so is a lost answer of an action that has run: an
    /// effect needs no payload. The answer of an asynchronous effect is waited for, too: it comes when what the effect did is
    /// durable. A bound of the effect's own is left out: the other system would take it for that of a client.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(crate) async fn deliver(&self, mut request: Request) -> Result<(), Error> {
        request.invocation.asynchronous = false;
        request.invocation.metadata.remove(REQUEST_TIMEOUT);
        match self.call(request).await {
            Err(Error::Elsewhere(failed))
                if failed.is_done || failed.kind == ErrorKind::ActionFailed =>
            {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }
}
