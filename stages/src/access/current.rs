//! Current: the policies that are in effect, which a reload replaces while calls go on.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Access, CallKind, Decision, Policies, Subject};
use crate::error::Error;
use crate::invocation::Invocation;

/// Why a call is refused, and by which setting.
const WHY: &str = "the access policies of this proxy do not allow it (TIDEGATE_POLICIES_DIR)";

/// The policies in effect; see the module. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub struct CurrentPolicies(Arc<ArcSwap<Policies>>);

impl CurrentPolicies {
    /// Puts these into effect. A call that is decided about meanwhile meets the former ones or these.
    pub fn replace(&self, policies: Policies) {
        self.0.store(Arc::new(policies));
    }

    /// Refuses a call that is not allowed, and counts it.
    ///
    /// # Errors
    /// When it is not allowed.
    pub(crate) fn check(&self, access: &Access<'_>) -> Result<(), Error> {
        let policies = self.0.load();
        if policies.is_empty() {
            return Ok(());
        }
        let Decision::Refused(policy) = policies.decide(access) else { return Ok(()) };
        policy.map_or(&policies.refusals, |policy| &policy.refusals).increment(1);
        Err(Error::NotAllowed(refusal(access)))
    }

    /// As [`check`](Self::check), for an invocation. One that spawns its actor needs the same right for each name
    /// that it gives as what to spawn from.
    ///
    /// # Errors
    /// When it is not allowed.
    pub(crate) fn check_invocation(
        &self,
        subject: Subject<'_>,
        kind: CallKind,
        invocation: &Invocation,
    ) -> Result<(), Error> {
        if self.0.load().is_empty() {
            return Ok(());
        }
        let Invocation { actor, action, register_ref, .. } = invocation;
        let access = Access { subject, kind, system: &actor.system, name: &actor.name, action };
        self.check(&access)?;
        if register_ref.is_empty() {
            return Ok(());
        }
        for definition in [register_ref, &actor.parent] {
            if !definition.is_empty() && *definition != actor.name {
                self.check(&Access { name: definition, ..access })?;
            }
        }
        Ok(())
    }
}

/// What a refused caller is told. It does not name the policy: the caller needs no list of what is guarded how.
fn refusal(access: &Access<'_>) -> String {
    let Access { subject, kind, system, name, action } = access;
    let who = match subject {
        Subject::Client(client) => client.to_string(),
        Subject::Actor(actor) => format!("actor {actor}"),
    };
    if *kind == CallKind::Broadcast {
        return format!("{who} may not send to channel {system:.200}/{name:.200}: {WHY}");
    }
    let kind = kind.name();
    // Names are not checked yet: they may be long.
    format!(
        "{who} may not call action {action:.200} of actor {system:.200}/{name:.200} ({kind}): {WHY}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Policy;
    use crate::actor::ActorId;
    use crate::identity::Identity;

    #[test]
    fn a_call_that_spawns_needs_the_right_to_its_definition_too() {
        let current = CurrentPolicies::default();
        let client = Identity::default();
        let policy = Policy::parse("x.policy", "targets: guest, guest-*");
        let call = |name: &str, register_ref: &str, parent: &str| {
            let (name, parent) = (name.into(), parent.into());
            let actor = ActorId { name, system: "s".into(), parent };
            let invocation = Invocation {
                actor,
                action: "add".into(),
                register_ref: register_ref.into(),
                ..Invocation::default()
            };
            current.check_invocation(Subject::Client(&client), CallKind::Invoke, &invocation)
        };
        call("anybody", "anything", "").unwrap();
        current.replace(Policies::new(vec![policy.unwrap()]));
        for (name, register_ref, parent) in
            [("guest-1", "", "admin"), ("guest-1", "guest", ""), ("guest-1", "guest-1", "guest")]
        {
            call(name, register_ref, parent).unwrap();
        }
        for (name, register_ref, parent) in
            [("root", "guest", ""), ("guest-1", "admin", ""), ("guest-1", "guest-1", "admin")]
        {
            let error = call(name, register_ref, parent).unwrap_err();
            assert!(matches!(error, Error::NotAllowed(_)), "{name} {register_ref} {parent}");
        }
    }
}
