//! Access: who may call what, as policy files say.
//!
//! A file holds one policy: `type: allow` or `deny`, and lists that narrow it. A policy matches a call when each of its
//! lists does. A deny that matches refuses. Where there are allows, what none of them matches is refused too. Without
//! files everything is allowed.

mod current;
mod list;
mod parse;
mod pattern;
mod peer;

pub use current::CurrentPolicies;
pub use pattern::Pattern;

use std::fmt;

use metrics::{Counter, counter};

use crate::actor::ActorRef;
use crate::identity::Identity;
use crate::metrics::POLICY_REFUSALS_TOTAL;
use list::List;

/// Under which name refusals are counted that no policy made, because none allowed the call.
const NONE_ALLOWS: &str = "no policy allows it";

/// A call that may or may not be allowed.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// Who makes it.
    pub subject: Subject<'a>,
    /// What kind of call it is.
    pub kind: CallKind,
    /// System of the called actor.
    pub system: &'a str,
    /// Name of the called actor.
    pub name: &'a str,
    /// The action.
    pub action: &'a str,
}

/// Who makes a call.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A client, as the edge knows it.
    Client(&'a Identity),
    /// An actor, on whose behalf the mesh makes the call.
    Actor(&'a ActorRef),
}

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A client runs an action.
    Invoke,
    /// A client reads the current state.
    State,
    /// A side effect of an actor.
    Effect,
    /// An actor pipes its answer to another.
    Pipe,
    /// An actor forwards its call to another.
    Forward,
    /// An actor sends to a channel.
    Broadcast,
}

impl CallKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Invoke, Self::State, Self::Effect, Self::Pipe, Self::Forward, Self::Broadcast];

    /// Its name in a policy file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::State => "state",
            Self::Effect => "effect",
            Self::Pipe => "pipe",
            Self::Forward => "forward",
            Self::Broadcast => "broadcast",
        }
    }
}

/// A key of a policy that narrows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Names of calling actors.
    Actors,
    /// Systems of calling actors.
    ActorSystems,
    /// Names of clients.
    Identities,
    /// Called actors.
    Targets,
    /// Called actions.
    Actions,
    /// Kinds of calls.
    Kinds,
}

impl Key {
    const ALL: [Self; 6] = [
        Self::Actors,
        Self::ActorSystems,
        Self::Identities,
        Self::Targets,
        Self::Actions,
        Self::Kinds,
    ];

    /// Its name in a policy file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Actors => "actors",
            Self::ActorSystems => "actor_systems",
            Self::Identities => "identities",
            Self::Targets => "targets",
            Self::Actions => "actions",
            Self::Kinds => "kinds",
        }
    }
}

/// Whether a policy allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyType {
    /// What it matches is allowed, unless another one denies it.
    Allow,
    /// What it matches is refused.
    Deny,
}

/// A mistake in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {text}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub text: String,
}

/// A key that a file names, which narrows its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowed {
    /// The key.
    pub key: Key,
    /// The line that names it, from 1.
    pub line: u32,
    /// Its values as they were written.
    pub text: String,
    list: List,
}

/// One policy file.
#[derive(Clone)]
pub struct Policy {
    /// The file.
    pub file: String,
    /// Whether it allows or denies.
    pub policy_type: PolicyType,
    /// The line that says so; 1 when none does.
    pub line: u32,
    narrowed: Vec<Narrowed>,
    refusals: Counter,
}

impl Policy {
    /// Reads the text of a file. The policy is called as the file, less its folder and extension.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        let parse::Parsed { policy_type, line, narrowed } = parse::parse(file, text)?;
        let name = file.rsplit('/').next().unwrap_or(file);
        let name = name.strip_suffix(".policy").unwrap_or(name).to_owned();
        let refusals = counter!(POLICY_REFUSALS_TOTAL, "policy" => name);
        Ok(Self { file: file.into(), policy_type, line, narrowed, refusals })
    }

    /// The first of its keys that does not match; `None` when the policy matches the call.
    pub fn mismatch(&self, access: &Access<'_>) -> Option<&Narrowed> {
        self.narrowed.iter().find(|narrowed| !narrowed.list.matches(narrowed.key, access))
    }

    fn decides(&self, policy_type: PolicyType, access: &Access<'_>) -> bool {
        self.policy_type == policy_type && self.mismatch(access).is_none()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, policy_type, narrowed, .. } = self;
        let mut policy = f.debug_struct("Policy");
        policy.field("file", file).field("policy_type", policy_type).field("narrowed", narrowed);
        policy.finish_non_exhaustive()
    }
}

/// What the policies say of a call.
#[derive(Debug, Clone, Copy)]
pub enum Decision<'a> {
    /// It is allowed: by this policy, or because none says otherwise.
    Allowed(Option<&'a Policy>),
    /// It is refused: by this policy, or because no allow matches.
    Refused(Option<&'a Policy>),
}

/// All policies. The default is none, which allows everything.
#[derive(Debug, Clone)]
pub struct Policies {
    policies: Vec<Policy>,
    refusals: Counter,
}

impl Default for Policies {
    fn default() -> Self {
        Self { policies: Vec::new(), refusals: Counter::noop() }
    }
}

impl Policies {
    /// Joins policies; of several that match, the first one decides.
    pub fn new(policies: Vec<Policy>) -> Self {
        let refusals = counter!(POLICY_REFUSALS_TOTAL, "policy" => NONE_ALLOWS);
        Self { policies, refusals }
    }

    /// The policies.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Decides about a call. Allocates nothing, unless a policy names addresses with a `*`.
    pub fn decide(&self, access: &Access<'_>) -> Decision<'_> {
        let first =
            |policy_type| self.policies.iter().find(|policy| policy.decides(policy_type, access));
        if let Some(deny) = first(PolicyType::Deny) {
            return Decision::Refused(Some(deny));
        }
        if let Some(allow) = first(PolicyType::Allow) {
            return Decision::Allowed(Some(allow));
        }
        if self.policies.iter().any(|policy| policy.policy_type == PolicyType::Allow) {
            Decision::Refused(None)
        } else {
            Decision::Allowed(None)
        }
    }
}

#[cfg(test)]
mod tests;
