//! Allow: refuses a call that the access policies do not allow.
//!
//! It comes before the actor is looked for: a client that may not call an actor does not learn whether it exists.

use crate::access::{CallKind, CurrentPolicies, Subject};
use crate::call::{Origin, Request};
use crate::error::Error;
use crate::filter::Predicate;

/// Lets allowed calls pass.
#[derive(Debug, Clone)]
pub(crate) struct Allow {
    /// What is allowed.
    pub(crate) policies: CurrentPolicies,
}

impl Predicate<Request> for Allow {
    type Passed = Request;

    fn check(&self, request: Request) -> Result<Request, Error> {
        let (subject, kind) = match &request.origin {
            Origin::Outside => (Subject::Client(&request.invocation.identity), CallKind::Invoke),
            Origin::Due => return Ok(request),
            Origin::Inside(actor) => (Subject::Actor(actor), CallKind::Effect),
        };
        self.policies.check_invocation(subject, kind, &request.invocation)?;
        Ok(request)
    }
}
