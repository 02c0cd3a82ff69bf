//! Actor: parses an actor's name and a point in its history from the command line.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use tidegate_stages::state::Timestamp;

use crate::moment;

/// An actor, as SYSTEM/ACTOR. What follows the first slash is the name; a slash in the system is written `%2F`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ActorName {
    pub(super) system: String,
    pub(super) name: String,
}

impl FromStr for ActorName {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        match given.split_once('/') {
            Some((system, name)) if !system.is_empty() && !name.is_empty() => {
                let system = percent_decode_str(system).decode_utf8();
                let system = system.map_err(|_| "the system is not UTF-8 when it is decoded")?;
                Ok(Self { system: system.into(), name: name.into() })
            }
            _ => Err("the actor must be given as SYSTEM/ACTOR".into()),
        }
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.name)
    }
}

/// Selects one of an actor's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The latest durable state.
    Latest,
    /// The state of a revision.
    Revision(u64),
    /// The state at a time.
    At(Timestamp),
}

/// An actor and one of its states, as SYSTEM/ACTOR, SYSTEM/ACTOR@REVISION or SYSTEM/ACTOR@TIME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) actor: ActorName,
    pub(super) which: Which,
}

impl FromStr for Point {
    type Err = String;

    /// The text after the last `@` is a revision or a time if it parses as one; otherwise it belongs to the
    /// name.
    fn from_str(given: &str) -> Result<Self, String> {
        let parted = given.rsplit_once('@').and_then(|(actor, which)| {
            let which = if moment::is_rfc_3339(which) {
                Which::At(moment::parse(which).ok()?)
            } else {
                Which::Revision(revision(which).ok()?)
            };
            Some((actor, which))
        });
        let (actor, which) = parted.unwrap_or((given, Which::Latest));
        Ok(Self { actor: actor.parse()?, which })
    }
}

/// Parses the number of a revision.
pub(super) fn revision(given: &str) -> Result<u64, String> {
    let number = given.parse::<u64>().ok().filter(|number| (1..1 << 63).contains(number));
    number.ok_or_else(|| "must be a whole number from 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_with_a_slash_is_written_with_an_escape() {
        for (given, system, name) in [
            ("eu%2Fshop/nightly", "eu/shop", "nightly"),
            ("eu/shop/nightly", "eu", "shop/nightly"),
            ("50%25/a%2Fb", "50%", "a%2Fb"),
            ("50%/a", "50%", "a"),
        ] {
            let expected = ActorName { system: system.into(), name: name.into() };
            assert_eq!(given.parse(), Ok(expected), "{given}");
        }
        assert!("%FF/a".parse::<ActorName>().is_err());
    }

    #[test]
    fn a_point_is_an_actor_and_a_revision_or_a_time() {
        let actor = |name: &str| ActorName { system: "s".into(), name: name.into() };
        for (given, name, which) in [
            ("s/a", "a", Which::Latest),
            ("s/a@7", "a", Which::Revision(7)),
            ("s/a@1970-01-01T00:00:01Z", "a", Which::At(Timestamp(1_000_000))),
            ("s/joe@example.com", "joe@example.com", Which::Latest),
            ("s/joe@example.com@7", "joe@example.com", Which::Revision(7)),
            ("s/a/b@0", "a/b@0", Which::Latest),
        ] {
            assert_eq!(given.parse(), Ok(Point { actor: actor(name), which }), "{given}");
        }
        for wrong in ["", "a", "/a", "s/", "s@7", "s/@7"] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong}");
        }
    }
}
