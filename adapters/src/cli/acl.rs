//! `tidegate acl check`: explains what the policy files say of a call.

use std::fmt::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_stages::access::{Access, CallKind, Decision, Policies, Policy, PolicyType, Subject};
use tidegate_stages::actor::ActorRef;
use tidegate_stages::identity::{Identity, PeerAddress};

use super::actor::ActorName;
use super::output::Output;
use super::{print, print_json};
use crate::app::StartError;
use crate::config::{Config, Flags};

const EXAMPLES: &str = "\
Reads the policy files as they are now; nothing has to run. IDENTITY is a name (of a token, or a user), tls:NAME,
peer:ADDRESS, peer:unix, anonymous, or actor:SYSTEM/ACTOR for a call that an actor makes. The exit code is 0 when
the call is allowed and 1 when it is refused.

Examples:
  tidegate acl check billing shop/invoice-7 add
  tidegate acl check anonymous shop/cart-7 get --kind state
  tidegate acl check actor:shop/cart-7 shop/invoice-7 add --kind pipe";

/// Looks into access policies
#[derive(Debug, Args)]
pub(super) struct Acl {
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(Debug, Subcommand)]
enum AclCommand {
    Check(Check),
}

/// Tells whether a call is allowed, and which file and line decide that
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Check {
    /// Who calls
    #[arg(value_name = "IDENTITY")]
    who: Who,
    /// The called actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: ActorName,
    /// The action
    action: String,
    /// The kind of call: invoke, state, effect, pipe, forward or broadcast; else invoke, of an actor effect
    #[arg(long, value_parser = kind)]
    kind: Option<CallKind>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    flags: Flags,
}

/// Who calls.
#[derive(Debug, Clone)]
enum Who {
    Client(Identity),
    Actor(ActorRef),
}

impl FromStr for Who {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        if let Some(actor) = given.strip_prefix("actor:") {
            let ActorName { system, name } = actor.parse()?;
            return Ok(Self::Actor(ActorRef::new(&system, &name)));
        }
        let mut client = Identity::default();
        match given.split_once(':') {
            _ if given == "anonymous" => {}
            Some(("tls", name)) => client.tls_client = Some(Arc::from(name)),
            Some(("peer", "unix")) => client.peer = Some(PeerAddress::UnixSocket),
            Some(("nats", _)) => client.peer = Some(PeerAddress::Nats),
            Some(("peer", address)) => {
                let address = address.parse::<IpAddr>();
                let address = address.map_err(|_| "peer: must name an IP address or unix")?;
                client.peer = Some(PeerAddress::Ip(address.to_canonical()));
            }
            _ => client.token_subject = Some(given.strip_prefix("token:").unwrap_or(given).into()),
        }
        Ok(Self::Client(client))
    }
}

fn kind(given: &str) -> Result<CallKind, String> {
    let known = CallKind::ALL.into_iter().find(|kind| kind.name() == given);
    known.ok_or_else(|| format!("must be one of {}", CallKind::ALL.map(CallKind::name).join(", ")))
}

impl Acl {
    pub(super) fn run(self) -> Result<ExitCode, StartError> {
        let AclCommand::Check(Check { who, actor, action, kind, output, flags }) = self.command;
        let folder = Config::load(&flags)?.settings()?.policies;
        let policies = folder.load().map_err(|error| StartError::Usage(error.to_string()))?;
        let (subject, usual) = match &who {
            Who::Client(client) => (Subject::Client(client), CallKind::Invoke),
            Who::Actor(actor) => (Subject::Actor(actor), CallKind::Effect),
        };
        let kind = kind.unwrap_or(usual);
        let ActorName { system, name } = &actor;
        let access = Access { subject, kind, system, name, action: &action };
        let (is_allowed, mut text) = decided(&policies, &access);
        if policies.is_empty() {
            text = format!("allowed: there is no policy in {}\n", folder.path.display());
        }
        if output.is_json() {
            print_json(&json!({ "allowed": is_allowed, "why": text.trim_end() }))?;
        } else {
            print(&text)?;
        }
        Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// What is decided, and why.
fn decided(policies: &Policies, access: &Access<'_>) -> (bool, String) {
    let by = |verb: &str, Policy { file, line, .. }: &Policy| format!("{verb} by {file}:{line}\n");
    let (is_allowed, mut text) = match policies.decide(access) {
        Decision::Allowed(Some(policy)) => return (true, by("allowed", policy)),
        Decision::Refused(Some(policy)) => return (false, by("refused", policy)),
        Decision::Allowed(None) => (true, "allowed: no policy denies it\n".to_owned()),
        Decision::Refused(None) => (false, "refused: no policy allows it\n".to_owned()),
    };
    for policy in policies.iter() {
        if let Some(missed) = policy.mismatch(access) {
            let (file, key) = (&policy.file, missed.key.name());
            let verb = match policy.policy_type {
                PolicyType::Allow => "allows",
                PolicyType::Deny => "denies",
            };
            writeln!(text, "  {file}:{} {verb} other calls: {key}: {}", missed.line, missed.text)
                .expect("writing to a String does not fail");
        }
    }
    (is_allowed, text)
}
