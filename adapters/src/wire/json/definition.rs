//! Definition: what a host registers in JSON. Its text is kept as it came, also in the store; it begins with a brace, which no
//! encoded `Actor` does.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_stages::actor::{
    ActorId, Channel, Definition, Encoding, HostAddress, HostSet, Kind, Timer,
};
use tidegate_stages::invocation::Registration;
use tidegate_stages::state::Tags;

use super::request::check_count;
use super::{Malformed, Types, objects, or_default, read, read_any, told};

/// The action of a channel that names no action.
pub(crate) const DEFAULT_CHANNEL_ACTION: &str = "receive";

const EVERY_MS: &str = "timers.every_ms";
const MIN_POOL_SIZE: &str = "min_pool_size";
const MAX_POOL_SIZE: &str = "max_pool_size";
/// The largest number that these fields have room for in the protocol's messages.
const MOST: u32 = i32::MAX.unsigned_abs();

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registered<'a> {
    system: String,
    #[serde(borrow)]
    actors: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Actor<'a> {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    parent: String,
    #[serde(default, deserialize_with = "or_default")]
    kind: KindName,
    #[serde(default)]
    stateful: Option<bool>,
    #[serde(default, deserialize_with = "or_default")]
    actions: Vec<String>,
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "or_default")]
    tags: Tags,
    #[serde(default, deserialize_with = "objects")]
    timers: Vec<Ticking>,
    #[serde(default, deserialize_with = "objects")]
    channels: Vec<Bound>,
    #[serde(default)]
    snapshot_ms: Option<u64>,
    #[serde(default)]
    deactivate_ms: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    min_pool_size: u64,
    #[serde(default, deserialize_with = "or_default")]
    max_pool_size: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    #[default]
    Named,
    Unnamed,
    Pooled,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticking {
    action: String,
    every_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    topic: String,
    #[serde(default, deserialize_with = "or_default")]
    action: String,
}

/// Reads the registration of the host that listens at `host`, with at most so many actors.
///
/// # Errors
/// When the body is no registration, names too many actors, or an actor twice; the text names the actor by its place.
pub fn registration(
    body: &Bytes,
    host: &HostAddress,
    max_actors: usize,
) -> Result<Registration, Malformed> {
    let Registered { system, actors } = read(body, "registration")?;
    check_count(actors, max_actors)?;
    let actors: Vec<&RawValue> = serde_json::from_str(actors.get())
        .map_err(|error| Malformed::wrong("actors", format!("is wrong: {}", told(&error))))?;
    let mut definitions = Vec::with_capacity(actors.len());
    let mut names = HashSet::new();
    for (place, actor) in actors.into_iter().enumerate() {
        let wrong = |reason: String| Malformed::wrong(format!("actors[{place}]"), reason);
        let raw = body.slice_ref(actor.get().as_bytes());
        let definition = definition(raw, host.clone().into(), &system).map_err(wrong)?;
        check_numbers(&definition).map_err(wrong)?;
        if !names.insert(definition.id.name.clone()) {
            return Err(wrong(format!("names {:?} again", definition.id.name)));
        }
        definitions.push(definition);
    }
    Ok(Registration { system, host: host.clone(), definitions })
}

/// Refuses numbers that a registration in protobuf has no room for. Definitions in a store are not refused: an earlier version
/// took them.
fn check_numbers(definition: &Definition) -> Result<(), String> {
    let periods = definition.timers.iter().map(|timer| (EVERY_MS, timer.period.as_millis()));
    let sizes = match definition.kind {
        Kind::Pooled { min, max } => {
            Some([(MIN_POOL_SIZE, u128::from(min)), (MAX_POOL_SIZE, u128::from(max))])
        }
        _ => None,
    };
    let mut numbers = periods.chain(sizes.into_iter().flatten());
    match numbers.find(|(_, number)| *number > u128::from(MOST)) {
        Some((field, number)) => Err(too_large(field, number)),
        None => Ok(()),
    }
}

fn too_large(field: &str, number: u128) -> String {
    format!("has a {field} of {number}, at most {MOST} is allowed")
}

/// Whether registered bytes are JSON.
pub(crate) fn is_definition(raw: &[u8]) -> bool {
    raw.starts_with(b"{")
}

/// Builds a definition from its JSON, as its host registered it or as a store kept it.
///
/// # Errors
/// A text, when the bytes are no definition.
pub(crate) fn definition(raw: Bytes, hosts: HostSet, system: &str) -> Result<Definition, String> {
    if !is_definition(&raw) {
        return Err("is no object".into());
    }
    let actor: Actor<'_> =
        serde_json::from_slice(&raw).map_err(|error| format!("is wrong: {}", told(&error)))?;
    // Stores know no descriptors, so none count here.
    let state = actor.state.map(|state| read_any(state.get(), &Types::default()));
    let initial_state = state.transpose().map_err(|why| format!("has a state that {why}"))?;
    let kind = match actor.kind {
        KindName::Named => Kind::Named,
        KindName::Unnamed => Kind::Unnamed,
        KindName::Pooled => Kind::Pooled {
            min: pool_size(MIN_POOL_SIZE, actor.min_pool_size)?,
            max: pool_size(MAX_POOL_SIZE, actor.max_pool_size)?,
        },
    };
    let timer = |ticking: Ticking| {
        let period = milliseconds(EVERY_MS, ticking.every_ms)?;
        Ok::<_, String>(Timer { action: ticking.action, period })
    };
    let timers = actor.timers.into_iter().map(timer).collect::<Result<_, _>>()?;
    Ok(Definition {
        id: ActorId { name: actor.name, system: system.into(), parent: actor.parent },
        hosts,
        kind,
        // A pool keeps nothing: its members have no names of their own.
        stateful: actor.stateful.unwrap_or(true) && !matches!(kind, Kind::Pooled { .. }),
        snapshot_every: period("snapshot_ms", actor.snapshot_ms)?,
        deactivate_after: period("deactivate_ms", actor.deactivate_ms)?,
        actions: actor.actions,
        timers,
        channels: Some(actor.channels.into_iter().map(channel).collect::<Result<_, _>>()?),
        initial_state,
        initial_tags: actor.tags,
        retired: false,
        encoding: Encoding::Json,
        raw,
    })
}

fn channel(bound: Bound) -> Result<Channel, String> {
    if bound.topic.is_empty() {
        return Err("has a channel without topic".into());
    }
    let action = if bound.action.is_empty() { DEFAULT_CHANNEL_ACTION.into() } else { bound.action };
    Ok(Channel { topic: bound.topic, action })
}

fn pool_size(field: &str, given: u64) -> Result<u32, String> {
    u32::try_from(given).map_err(|_| too_large(field, given.into()))
}

fn period(field: &str, given: Option<u64>) -> Result<Option<Duration>, String> {
    given.map(|given| milliseconds(field, given)).transpose()
}

fn milliseconds(field: &str, given: u64) -> Result<Duration, String> {
    // As the messages of the protocol have it.
    if given == 0 || i64::try_from(given).is_err() {
        return Err(format!("has a {field} of {given}"));
    }
    Ok(Duration::from_millis(given))
}
