//! List: the values of one key of a policy.

use super::pattern::Pattern;
use super::peer::Peer;
use super::{Access, CallKind, Key, Subject};
use crate::identity::PeerAddress;

/// The values of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum List {
    /// `*`, or nothing was said: matches also what has no name.
    Everything,
    /// Matches what one of these matches.
    Values(Vec<Item>),
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A name.
    Name(Pattern),
    /// An actor of certain systems.
    Actor { system: Pattern, name: Pattern },
    /// A client that is known by a certain means.
    Client(Means, Pattern),
    /// A client that calls from there.
    Peer(Peer),
    /// A kind of call.
    Kind(CallKind),
}

/// By what a client is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// The subject of its token, or its user name.
    Token,
    /// The name in its TLS certificate.
    Tls,
    /// That its calls come over NATS. A message does not say who sent it, so nothing is compared.
    Nats,
}

/// The prefixes that stand for them in a file.
const MEANS: [(&str, Means); 3] =
    [("token:", Means::Token), ("tls:", Means::Tls), ("nats:", Means::Nats)];
/// The prefix of where a client calls from.
const PEER: &str = "peer:";

impl Item {
    /// Reads one value of a key.
    ///
    /// # Errors
    /// In words, when it is none.
    pub(super) fn parse(key: Key, text: &str) -> Result<Self, String> {
        let pattern = |text: &str| {
            Pattern::parse(text).ok_or_else(|| format!("{text:?} has more than one *"))
        };
        match key {
            Key::Kinds => CallKind::ALL
                .into_iter()
                .find(|kind| kind.name() == text)
                .map(Self::Kind)
                .ok_or_else(|| {
                    let known = CallKind::ALL.map(CallKind::name).join(", ");
                    format!("{text:?} is no kind of call, these are: {known}")
                }),
            Key::Identities => {
                if let Some(peer) = text.strip_prefix(PEER) {
                    return Peer::parse(peer).map(Self::Peer);
                }
                let means = MEANS.iter().find_map(|(prefix, means)| {
                    text.strip_prefix(prefix).map(|rest| (*means, rest))
                });
                match means {
                    Some((Means::Nats, rest)) if !matches!(rest, "" | "*") => {
                        Err(format!("{text:?}: a call over NATS has no name, write `nats:` alone"))
                    }
                    Some((means, rest)) => Ok(Self::Client(means, pattern(rest)?)),
                    None => pattern(text).map(Self::Name),
                }
            }
            Key::Targets => match text.split_once('/') {
                Some((system, name)) => {
                    Ok(Self::Actor { system: pattern(system)?, name: pattern(name)? })
                }
                None => pattern(text).map(Self::Name),
            },
            Key::Actors | Key::ActorSystems | Key::Actions => pattern(text).map(Self::Name),
        }
    }

    fn matches(&self, key: Key, access: &Access<'_>) -> bool {
        match (self, key, access.subject) {
            (Self::Name(name), Key::Actions, _) => name.matches(access.action),
            (Self::Name(name), Key::Targets, _) => name.matches(access.name),
            (Self::Name(name), Key::Actors, Subject::Actor(actor)) => name.matches(actor.name()),
            (Self::Name(system), Key::ActorSystems, Subject::Actor(actor)) => {
                system.matches(actor.system())
            }
            (Self::Name(name), Key::Identities, Subject::Client(client)) => {
                let names = [&client.token_subject, &client.tls_client];
                names.into_iter().flatten().any(|known| name.matches(known))
            }
            (Self::Client(means, name), _, Subject::Client(client)) => match means {
                Means::Token => client.token_subject.as_ref().is_some_and(|it| name.matches(it)),
                Means::Tls => client.tls_client.as_ref().is_some_and(|it| name.matches(it)),
                Means::Nats => client.peer == Some(PeerAddress::Nats),
            },
            (Self::Peer(named), _, Subject::Client(client)) => {
                client.peer.is_some_and(|peer| named.matches(peer))
            }
            (Self::Actor { system, name }, ..) => {
                system.matches(access.system) && name.matches(access.name)
            }
            (Self::Kind(kind), ..) => *kind == access.kind,
            _ => false,
        }
    }
}

impl List {
    pub(super) fn matches(&self, key: Key, access: &Access<'_>) -> bool {
        match self {
            Self::Everything => true,
            Self::Values(items) => items.iter().any(|item| item.matches(key, access)),
        }
    }
}
