//! Registrations and definitions: decodes what a host registers, and keeps the bytes verbatim.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::actor::{Channel, Definition, Encoding, HostAddress, HostSet, Kind, Timer};
use tidegate_stages::invocation::Registration;

use super::json::{self, DEFAULT_CHANNEL_ACTION};
use super::parts::{actor_id, actor_state};
use super::{Malformed, count};
use crate::proto::eigr::functions::protocol as wire;

/// Period of the snapshot timer when a strategy has none (decision 20).
const DEFAULT_SNAPSHOT: Duration = Duration::from_secs(2);
/// Idle time before deactivation when a strategy has none (decision 20).
const DEFAULT_DEACTIVATION: Duration = Duration::from_secs(10);

/// `RegistrationRequest`, with each registered actor as the bytes that the host sent.
#[derive(Clone, PartialEq, Message)]
struct RegistrationFrame {
    #[prost(bytes = "bytes", optional, tag = "1")]
    service_info: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    actor_system: Option<SystemFrame>,
}

#[derive(Clone, PartialEq, Message)]
struct SystemFrame {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    registry: Option<RegistryFrame>,
}

/// `Registry`. In protobuf, a map is encoded as repeated pairs.
#[derive(Clone, PartialEq, Message)]
struct RegistryFrame {
    #[prost(message, repeated, tag = "1")]
    actors: Vec<RegistryEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct RegistryEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "bytes", tag = "2")]
    actor: Bytes,
}

/// Reads a `RegistrationRequest` of the host that listens at `host`, with at most so many actors.
///
/// # Errors
/// When the body cannot be decoded, names too many actors or lacks a field; the error names the actor.
pub fn registration(
    body: Bytes,
    host: &HostAddress,
    max_actors: usize,
) -> Result<Registration, Malformed> {
    const MESSAGE: &str = "RegistrationRequest";
    count::check(&body, &[2, 2, 1], "actor_system.registry.actors", max_actors)?;
    let missing = |field| Malformed::Missing { message: MESSAGE, field };
    let frame =
        RegistrationFrame::decode(body).map_err(|error| Malformed::undecodable(MESSAGE, &error))?;
    frame.service_info.ok_or_else(|| missing("service_info"))?;
    let system = frame.actor_system.ok_or_else(|| missing("actor_system"))?;
    let registry = system.registry.ok_or_else(|| missing("actor_system.registry"))?;
    let mut definitions = Vec::with_capacity(registry.actors.len());
    // Of two entries with the same map key, the last one wins, as in protobuf.
    let mut places: HashMap<String, usize, Seeded> = HashMap::default();
    for RegistryEntry { key, actor } in registry.actors {
        let definition =
            definition(actor, host.clone().into(), &system.name).map_err(|reason| {
                Malformed::wrong(format!("actor_system.registry.actors[{key:?}]"), reason)
            })?;
        let place = places.get(&key).and_then(|place| definitions.get_mut(*place));
        if let Some(place) = place {
            *place = definition;
        } else {
            places.insert(key, definitions.len());
            definitions.push(definition);
        }
    }
    Ok(Registration { system: system.name, host: host.clone(), definitions })
}

/// Builds a definition from the bytes of an `Actor`, or from its JSON, as its host registered them or as a store kept them.
///
/// # Errors
/// A text, when the bytes are no definition or lack a field.
pub fn definition(raw: Bytes, hosts: HostSet, system: &str) -> Result<Definition, String> {
    if json::is_definition(&raw) {
        return json::definition(raw, hosts, system);
    }
    let actor = wire::actors::Actor::decode(raw.clone())
        .map_err(|error| format!("is no Actor: {error}"))?;
    let mut id = actor_id(actor.id.ok_or("lacks id")?);
    if id.system.is_empty() {
        system.clone_into(&mut id.system);
    }
    let settings = actor.settings.ok_or("lacks settings")?;
    let kind = kind(&settings);
    let timers = actor.timer_actions.into_iter().map(timer).collect::<Result<_, _>>()?;
    let channels = match actor.metadata {
        Some(metadata) => Some(channels(metadata.channel_group)?),
        None => None,
    };
    let initial = actor.state.map(actor_state).unwrap_or_default();
    Ok(Definition {
        id,
        hosts,
        kind,
        // A pool keeps nothing: its members have no names of their own.
        stateful: settings.stateful && !matches!(kind, Kind::Pooled { .. }),
        snapshot_every: snapshot_every(settings.snapshot_strategy)?,
        deactivate_after: deactivate_after(settings.deactivation_strategy)?,
        actions: actor.actions.into_iter().map(|action| action.name).collect(),
        timers,
        channels,
        initial_state: initial.state,
        initial_tags: initial.tags,
        retired: false,
        encoding: Encoding::Protobuf,
        raw,
    })
}

/// The number of a kind that later protocols have.
const TASK: i32 = 5;

fn kind(settings: &wire::actors::ActorSettings) -> Kind {
    let size = |size: i32| u32::try_from(size).unwrap_or(0);
    match wire::actors::Kind::try_from(settings.kind) {
        Ok(wire::actors::Kind::UnknowKind | wire::actors::Kind::Named) => Kind::Named,
        Ok(wire::actors::Kind::Unnamed) => Kind::Unnamed,
        Ok(wire::actors::Kind::Pooled) => {
            Kind::Pooled { min: size(settings.min_pool_size), max: size(settings.max_pool_size) }
        }
        Ok(wire::actors::Kind::Proxy) => Kind::Proxy,
        Err(_) if settings.kind == TASK => Kind::Task,
        Err(_) => Kind::Other(settings.kind),
    }
}

fn snapshot_every(
    strategy: Option<wire::actors::ActorSnapshotStrategy>,
) -> Result<Option<Duration>, String> {
    use wire::actors::actor_snapshot_strategy::Strategy;
    strategy
        .map(|strategy| {
            let timeout = strategy.strategy.map(|Strategy::Timeout(timeout)| timeout);
            milliseconds("settings.snapshot_strategy", timeout, DEFAULT_SNAPSHOT)
        })
        .transpose()
}

fn deactivate_after(
    strategy: Option<wire::actors::ActorDeactivationStrategy>,
) -> Result<Option<Duration>, String> {
    use wire::actors::actor_deactivation_strategy::Strategy;
    strategy
        .map(|strategy| {
            let timeout = strategy.strategy.map(|Strategy::Timeout(timeout)| timeout);
            milliseconds("settings.deactivation_strategy", timeout, DEFAULT_DEACTIVATION)
        })
        .transpose()
}

/// Returns the time of a strategy; the default when the time is absent or 0 (decision 20).
fn milliseconds(
    field: &str,
    timeout: Option<wire::actors::TimeoutStrategy>,
    default: Duration,
) -> Result<Duration, String> {
    match timeout.map_or(0, |timeout| timeout.timeout) {
        0 => Ok(default),
        given => u64::try_from(given)
            .map(Duration::from_millis)
            .map_err(|_| format!("has a negative {field}.timeout: {given} ms")),
    }
}

fn timer(timer: wire::actors::FixedTimerAction) -> Result<Timer, String> {
    let action = timer.action.ok_or("has a timer action without action")?.name;
    // The field is named `seconds` but holds milliseconds.
    let period =
        u64::try_from(timer.seconds).ok().filter(|period| *period > 0).ok_or_else(|| {
            format!("has a timer for {action:?} with a period of {} ms", timer.seconds)
        })?;
    Ok(Timer { action, period: Duration::from_millis(period) })
}

fn channels(groups: Vec<Bytes>) -> Result<Vec<Channel>, String> {
    groups.into_iter().filter(|group| !group.is_empty()).map(channel).collect()
}

/// Reads a binding: a `Channel`, or the bare topic that older SDKs send.
///
/// A bare topic can decode as a `Channel` with unknown fields only. So only a message with a topic or an action counts as a
/// `Channel`.
fn channel(group: Bytes) -> Result<Channel, String> {
    let bound = match wire::actors::Channel::decode(group.clone()) {
        Ok(channel) if !channel.topic.is_empty() || !channel.action.is_empty() => channel,
        _ => {
            let topic = String::from_utf8(group.into())
                .map_err(|_| "has a metadata.channel_group that is neither a Channel nor text")?;
            wire::actors::Channel { topic, action: String::new() }
        }
    };
    let action = if bound.action.is_empty() { DEFAULT_CHANNEL_ACTION.into() } else { bound.action };
    Ok(Channel { topic: bound.topic, action })
}
