//! Route: finds the resource of a path and a method.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;
use tidegate_stages::outbox::view::DeadLetterChange;

use super::trust::Asks;

/// The resource that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    Register,
    /// A spawn. A body of protobuf names the system itself.
    Spawn {
        system: Cow<'a, str>,
    },
    /// A call. A body of protobuf names system and actor itself; a name that is not UTF-8 is none that exists.
    Invoke {
        system: Cow<'a, str>,
        name: Cow<'a, str>,
    },
    /// One actor; both names are percent-decoded.
    Actor {
        system: Cow<'a, str>,
        name: Cow<'a, str>,
    },
    /// One actor's history; the names are percent-decoded.
    History {
        system: Cow<'a, str>,
        name: Cow<'a, str>,
        part: Part<'a>,
    },
    /// A topic of a system; both names are percent-decoded.
    Channel {
        system: Cow<'a, str>,
        topic: Cow<'a, str>,
    },
    /// How far durable topics are.
    Channels(Channels<'a>),
    /// The hosts of a system's definitions.
    Hosts {
        system: Cow<'a, str>,
    },
    /// One of them; both names are percent-decoded.
    Host {
        system: Cow<'a, str>,
        address: Cow<'a, str>,
    },
    /// Schedules of a system; the names are percent-decoded.
    Schedules {
        system: Cow<'a, str>,
        which: Which<'a>,
    },
    /// A copy of the whole store: begins one, or the next page of the one with this id.
    Backup {
        id: Option<&'a str>,
    },
    /// Effects that are not delivered.
    Outboxes(Outboxes<'a>),
    /// What actors do, or a change of those that a filter matches.
    Actors {
        verb: Option<Verb>,
    },
    /// What all actors do, added up.
    Summary,
    /// The heaviest actors.
    Hot,
    /// What is not as it should be.
    Warnings,
    /// Calls that have ended and are kept.
    Calls,
    /// The calls of an actor, while they end.
    Followed {
        system: Cow<'a, str>,
        name: Cow<'a, str>,
    },
    /// Which lines are logged.
    LogLevel,
    Health,
    Liveness,
    Readiness,
    Metrics,
    /// The description of the requests in JSON.
    OpenApi,
}

/// The requested read or change of an actor's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Read the history.
    Revisions,
    /// Read one entry, by its number as the path spells it.
    Revision(&'a str),
    /// Read the state at a time.
    State,
    /// Make an entry the current state.
    Restore,
    /// Add the current state as an entry.
    Checkpoint,
}

/// Which effects a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outboxes<'a> {
    /// Looks at those that the query chooses.
    All,
    /// Changes the dead letters that the query chooses.
    Change(DeadLetterChange),
    /// One of a source; the names are percent-decoded. Without a change its method says what is done.
    One {
        system: Cow<'a, str>,
        source: Cow<'a, str>,
        id: &'a str,
        change: Option<DeadLetterChange>,
    },
}

/// Which durable topics a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Channels<'a> {
    /// All of them.
    All,
    /// The subscribers of one; the names are percent-decoded.
    Subscribers { system: Cow<'a, str>, topic: Cow<'a, str> },
}

/// Which schedules a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which<'a> {
    /// Those of a system.
    All,
    /// One of them.
    One(Cow<'a, str>),
    /// What is to be done with one.
    Change(Cow<'a, str>, Change),
}

/// What is to be done with a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Pause,
    Resume,
    Run,
}

/// What is done with actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Cancel,
    Pause,
    Resume,
    Deactivate,
}

impl Verb {
    fn parse(given: &str) -> Option<Self> {
        Some(match given {
            "cancel" => Self::Cancel,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "deactivate" => Self::Deactivate,
            _ => return None,
        })
    }
}

/// Why a path names no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoResource {
    /// There is no such path.
    Unknown,
    /// A percent-decoded name in the path is not UTF-8.
    NotText,
}

/// Most segments of a known path.
const SEGMENTS: usize = 9;

impl<'a> Resource<'a> {
    /// Finds the resource of a path. Empty segments are skipped, as upstream does.
    ///
    /// Names in the path of a POST decide nothing where the body has them: those count.
    pub(super) fn find(path: &'a str) -> Result<Self, NoResource> {
        if let Some((system, name)) = called(path) {
            return Ok(Self::Invoke { system: system.into(), name: name.into() });
        }
        let mut segments = [""; SEGMENTS];
        let mut count = 0;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            *segments.get_mut(count).ok_or(NoResource::Unknown)? = segment;
            count += 1;
        }
        match segments.get(..count).unwrap_or_default() {
            ["api", "v1", "system", system, "actors", name, "invoke"] => {
                let [system, name] =
                    [system, name].map(|part| percent_decode_str(part).decode_utf8_lossy());
                Ok(Self::Invoke { system, name })
            }
            ["api", "v1", "system", system, "actors", name] => {
                // A POST to `spawn` is the spawn endpoint; any other method addresses an actor of that name.
                Ok(Self::Actor { system: decoded(system)?, name: decoded(name)? })
            }
            ["api", "v1", "system", system, "actors", name, "effects", id, rest @ ..] => {
                let change = match rest {
                    [] => None,
                    ["retry"] => Some(DeadLetterChange::Retry),
                    _ => return Err(NoResource::Unknown),
                };
                let (system, source) = (decoded(system)?, decoded(name)?);
                Ok(Self::Outboxes(Outboxes::One { system, source, id, change }))
            }
            ["api", "v1", "system", system, "actors", name, "calls"] => {
                Ok(Self::Followed { system: decoded(system)?, name: decoded(name)? })
            }
            ["api", "v1", "system", system, "actors", name, part @ ..] => {
                let part = match part {
                    ["revisions"] => Part::Revisions,
                    ["revisions", number] => Part::Revision(number),
                    ["state"] => Part::State,
                    ["restore"] => Part::Restore,
                    ["checkpoint"] => Part::Checkpoint,
                    _ => return Err(NoResource::Unknown),
                };
                Ok(Self::History { system: decoded(system)?, name: decoded(name)?, part })
            }
            ["api", "v1", "system", system, "channels", topic] => {
                Ok(Self::Channel { system: decoded(system)?, topic: decoded(topic)? })
            }
            ["api", "v1", "system", system, "channels", topic, "subscribers"] => {
                let (system, topic) = (decoded(system)?, decoded(topic)?);
                Ok(Self::Channels(Channels::Subscribers { system, topic }))
            }
            ["api", "v1", "system", system, "hosts"] => {
                Ok(Self::Hosts { system: decoded(system)? })
            }
            ["api", "v1", "system", system, "hosts", address] => {
                Ok(Self::Host { system: decoded(system)?, address: decoded(address)? })
            }
            ["api", "v1", "system", system, "schedules", rest @ ..] => {
                let which = match rest {
                    [] => Which::All,
                    [name] => Which::One(decoded(name)?),
                    [name, "pause"] => Which::Change(decoded(name)?, Change::Pause),
                    [name, "resume"] => Which::Change(decoded(name)?, Change::Resume),
                    [name, "run"] => Which::Change(decoded(name)?, Change::Run),
                    _ => return Err(NoResource::Unknown),
                };
                Ok(Self::Schedules { system: decoded(system)?, which })
            }
            ["api", "v1", "system"] => Ok(Self::Register),
            ["api", "v1", "backup"] => Ok(Self::Backup { id: None }),
            ["api", "v1", "backup", id] => Ok(Self::Backup { id: Some(id) }),
            ["api", "v1", "effects"] => Ok(Self::Outboxes(Outboxes::All)),
            ["api", "v1", "effects", "retry"] => {
                Ok(Self::Outboxes(Outboxes::Change(DeadLetterChange::Retry)))
            }
            ["api", "v1", "effects", "drop"] => {
                Ok(Self::Outboxes(Outboxes::Change(DeadLetterChange::Drop)))
            }
            ["api", "v1", "channels"] => Ok(Self::Channels(Channels::All)),
            ["api", "v1", "actors"] => Ok(Self::Actors { verb: None }),
            ["api", "v1", "actors", verb] => {
                Ok(Self::Actors { verb: Some(Verb::parse(verb).ok_or(NoResource::Unknown)?) })
            }
            ["api", "v1", "summary"] => Ok(Self::Summary),
            ["admin", "warnings"] => Ok(Self::Warnings),
            ["api", "v1", "calls"] => Ok(Self::Calls),
            ["admin", "hot"] => Ok(Self::Hot),
            ["admin", "log-level"] => Ok(Self::LogLevel),
            ["health"] => Ok(Self::Health),
            ["health", "liveness"] => Ok(Self::Liveness),
            ["health", "readiness"] => Ok(Self::Readiness),
            ["metrics"] => Ok(Self::Metrics),
            ["openapi.json"] => Ok(Self::OpenApi),
            _ => Err(NoResource::Unknown),
        }
    }

    /// The resource for this method.
    pub(super) fn under(self, method: &Method) -> Self {
        match self {
            Self::Actor { system, name } if method == Method::POST && name == "spawn" => {
                Self::Spawn { system }
            }
            other => other,
        }
    }

    /// The methods of the resource, as an `Allow` header lists them.
    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::Register
            | Self::Spawn { .. }
            | Self::Invoke { .. }
            | Self::Channel { .. }
            | Self::Backup { .. }
            | Self::Actors { verb: Some(_) }
            | Self::Outboxes(Outboxes::Change(_) | Outboxes::One { change: Some(_), .. })
            | Self::History { part: Part::Restore | Part::Checkpoint, .. } => "POST",
            Self::Actor { .. } | Self::Outboxes(Outboxes::One { change: None, .. }) => {
                "GET, HEAD, DELETE"
            }
            Self::Host { .. } => "DELETE",
            Self::LogLevel => "GET, HEAD, PUT",
            Self::Schedules { which, .. } => which.allowed(),
            Self::Hosts { .. }
            | Self::Channels(_)
            | Self::History { .. }
            | Self::Actors { verb: None }
            | Self::Summary
            | Self::Hot
            | Self::Warnings
            | Self::Calls
            | Self::Followed { .. }
            | Self::Outboxes(Outboxes::All)
            | Self::Health
            | Self::Liveness
            | Self::Readiness
            | Self::Metrics
            | Self::OpenApi => "GET, HEAD",
        }
    }

    /// Whether the resource has this method.
    pub(super) fn allows(&self, method: &Method) -> bool {
        let allowed = self.allowed();
        // Most resources allow one method.
        allowed == method.as_str() || allowed.split(", ").any(|allowed| allowed == method.as_str())
    }

    /// What a request for it asks for, as the rule of trust sees it.
    pub(super) fn asks(&self, method: &Method) -> Asks {
        match self {
            Self::Health | Self::Liveness | Self::Readiness | Self::Metrics | Self::OpenApi => {
                Asks::Status
            }
            Self::Schedules { .. } if !matches!(*method, Method::GET | Method::HEAD) => {
                Asks::Schedule
            }
            Self::Register | Self::Spawn { .. } | Self::Schedules { .. } => Asks::Register,
            Self::Actor { .. } if method == Method::DELETE => Asks::Administer,
            Self::Invoke { .. } | Self::Channel { .. } | Self::Actor { .. } => Asks::Use,
            Self::Host { .. } => Asks::Drain,
            Self::Hosts { .. }
            | Self::Channels(_)
            | Self::History { .. }
            | Self::Backup { .. }
            | Self::Actors { .. }
            | Self::LogLevel
            | Self::Summary
            | Self::Hot
            | Self::Warnings
            | Self::Calls
            | Self::Followed { .. }
            | Self::Outboxes(_) => Asks::Administer,
        }
    }

    /// Whether it shows or changes what all of the proxy does.
    pub(super) fn is_of_the_whole(&self) -> bool {
        matches!(
            self,
            Self::Actors { .. }
                | Self::Channels(_)
                | Self::Summary
                | Self::Hot
                | Self::Warnings
                | Self::Calls
                | Self::Followed { .. }
                | Self::LogLevel
        )
    }

    /// Whether it continues a backup that began with a request of its own.
    pub(super) fn is_page_of_backup(&self) -> bool {
        matches!(self, Self::Backup { id: Some(_) })
    }

    /// Whether it is answered by the proxy itself, also while there is no mesh.
    pub(super) fn is_about_the_proxy(&self) -> bool {
        self.asks(&Method::GET) == Asks::Status
    }

    /// Whether a POST or PUT to it has a body that counts.
    pub(super) fn takes_body(&self) -> bool {
        match self {
            Self::Register | Self::Spawn { .. } | Self::Invoke { .. } | Self::Channel { .. } => {
                true
            }
            Self::Schedules { which, .. } => which.takes_body(),
            _ => false,
        }
    }

    /// Its name in metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Spawn { .. } => "spawn",
            Self::Invoke { .. } => "invoke",
            Self::Actor { .. } => "actor",
            Self::Channel { .. } => "publish",
            Self::Channels(_) => "channels",
            Self::History { part, .. } => part.label(),
            Self::Hosts { .. } | Self::Host { .. } => "hosts",
            Self::Backup { .. } => "backup",
            Self::Outboxes(_) => "effects",
            Self::Schedules { .. } => "schedules",
            Self::Actors { .. } => "actors",
            Self::Summary => "summary",
            Self::Hot => "hot",
            Self::Warnings => "warnings",
            Self::Calls => "calls",
            Self::Followed { .. } => "follow",
            Self::LogLevel => "log_level",
            Self::Health | Self::Liveness | Self::Readiness => "health",
            Self::Metrics => "metrics",
            Self::OpenApi => "openapi",
        }
    }
}

impl Which<'_> {
    fn allowed(&self) -> &'static str {
        match self {
            Self::All => "GET, HEAD, POST",
            Self::One(_) => "GET, HEAD, PUT, DELETE",
            Self::Change(..) => "POST",
        }
    }

    /// Whether a POST or PUT to it has a body that counts.
    fn takes_body(&self) -> bool {
        !matches!(self, Self::Change(..))
    }
}

impl Part<'_> {
    /// Its name in metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Revisions => "revisions",
            Self::Revision(_) => "revision",
            Self::State => "state",
            Self::Restore => "restore",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// The system and the actor of a call, when the path of the call is spelled as usual: most requests are such calls.
fn called(path: &str) -> Option<(&str, &str)> {
    let names = path.strip_prefix("/api/v1/system/")?.strip_suffix("/invoke")?;
    let (system, actor) = names.split_at(names.bytes().position(|byte| byte == b'/')?);
    let name = actor.strip_prefix("/actors/")?;
    let is_usual = !system.is_empty()
        && !name.is_empty()
        && system.bytes().all(|byte| byte != b'%')
        && name.bytes().all(|byte| byte != b'/' && byte != b'%');
    is_usual.then_some((system, name))
}

fn decoded(segment: &str) -> Result<Cow<'_, str>, NoResource> {
    percent_decode_str(segment).decode_utf8().map_err(|_| NoResource::NotText)
}

/// Parses `?revision=N` of a spawn; 0 means no revision.
pub(super) fn revision(query: Option<&str>) -> Result<Option<u64>, String> {
    let pairs = query.unwrap_or_default().split('&');
    let Some(given) = pairs.filter_map(|pair| pair.strip_prefix("revision=")).next_back() else {
        return Ok(None);
    };
    match given.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(revision) => Ok(Some(revision)),
        Err(_) => Err(format!("revision in the query must be a number, not {given:?}")),
    }
}

#[cfg(test)]
mod tests;
