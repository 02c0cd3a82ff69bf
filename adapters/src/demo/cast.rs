//! Cast: the demo's actors, as its host registers and serves them.
//!
//! Each counter has a ledger: with each count, a side effect brings the number to it. One counter, the crier, also broadcasts
//! its counts to the listener. The clock counts the ticks of its timer.

use std::time::Duration;

use anyhow::Context as _;
use prost::Message as _;

use crate::proto::eigr::functions::protocol::actors::{
    Action, Actor, ActorDeactivationStrategy, ActorId, ActorSettings, ActorSnapshotStrategy,
    ActorState, ActorSystem, Channel, FixedTimerAction, Kind, Metadata, Registry, TimeoutStrategy,
    actor_deactivation_strategy, actor_snapshot_strategy,
};
use crate::proto::eigr::functions::protocol::{RegistrationRequest, ServiceInfo};
use crate::proto::google::protobuf::Any;

/// System of the demo's actors.
pub(super) const SYSTEM: &str = "demo";
/// The definition from which all counters are made.
pub(super) const COUNTER: &str = "counter";
/// The definition from which the ledger of each counter is made.
pub(super) const LEDGER: &str = "ledger";
/// The actor that receives broadcasts.
pub(super) const LISTENER: &str = "listener";
/// The actor with a timer.
pub(super) const CLOCK: &str = "clock";
/// The counter that broadcasts its counts.
pub(super) const CRIER: &str = "tern";

/// The action that adds one and sends the new count on.
pub(super) const INCREMENT: &str = "increment";
/// The action that notes a number.
pub(super) const NOTE: &str = "note";
/// The action of the timer: adds one.
pub(super) const TICK: &str = "tick";
/// The topic of the broadcasts.
pub(super) const TOPIC: &str = "counts";
/// From one tick of the timer to the next.
pub(super) const PERIOD: Duration = Duration::from_millis(100);

/// Type of a count: prost encodes a bare `u64` as this message.
const COUNT_TYPE: &str = "type.googleapis.com/google.protobuf.UInt64Value";

pub(super) fn id(name: &str) -> ActorId {
    ActorId { name: name.into(), system: SYSTEM.into(), parent: String::new() }
}

/// Returns the name of a counter's ledger.
pub(super) fn ledger_of(counter: &str) -> String {
    format!("{counter}-ledger")
}

pub(super) fn count(count: u64) -> Any {
    Any { type_url: COUNT_TYPE.into(), value: count.encode_to_vec().into() }
}

/// Returns the count in a state or payload; no state means 0.
pub(super) fn count_in(any: Option<&Any>) -> anyhow::Result<u64> {
    let Some(any) = any else { return Ok(0) };
    anyhow::ensure!(
        any.type_url == COUNT_TYPE,
        "expected a {COUNT_TYPE}, got a {:?}",
        any.type_url
    );
    u64::decode(any.value.clone()).context("not a count")
}

/// Returns the sample host's registration.
pub(super) fn registration() -> RegistrationRequest {
    let topic = Channel { topic: TOPIC.into(), action: NOTE.into() };
    let subscribed =
        Metadata { channel_group: vec![topic.encode_to_vec().into()], ..Metadata::default() };
    let listener = Actor { metadata: Some(subscribed), ..stateful(LISTENER, Kind::Named, &[NOTE]) };
    let timer = FixedTimerAction {
        seconds: i32::try_from(PERIOD.as_millis()).unwrap_or(i32::MAX),
        action: Some(Action { name: TICK.into() }),
    };
    let clock = Actor { timer_actions: vec![timer], ..stateful(CLOCK, Kind::Named, &[]) };
    let actors = [
        (COUNTER, stateful(COUNTER, Kind::Unnamed, &[INCREMENT])),
        (LEDGER, stateful(LEDGER, Kind::Unnamed, &[NOTE])),
        (LISTENER, listener),
        (CLOCK, clock),
    ];
    let actors = actors.into_iter().map(|(name, actor)| (name.to_owned(), actor)).collect();
    RegistrationRequest {
        service_info: Some(ServiceInfo {
            service_name: "tidegate-demo".into(),
            service_version: env!("CARGO_PKG_VERSION").into(),
            service_runtime: "rust".into(),
            support_library_name: "none".into(),
            support_library_version: String::new(),
            protocol_major_version: 1,
            protocol_minor_version: 1,
        }),
        actor_system: Some(ActorSystem {
            name: SYSTEM.into(),
            registry: Some(Registry { actors }),
        }),
    }
}

fn stateful(name: &str, kind: Kind, actions: &[&str]) -> Actor {
    let after = |millis| TimeoutStrategy { timeout: millis };
    let settings = ActorSettings {
        kind: kind.into(),
        stateful: true,
        snapshot_strategy: Some(ActorSnapshotStrategy {
            strategy: Some(actor_snapshot_strategy::Strategy::Timeout(after(2_000))),
        }),
        deactivation_strategy: Some(ActorDeactivationStrategy {
            strategy: Some(actor_deactivation_strategy::Strategy::Timeout(after(10_000))),
        }),
        ..ActorSettings::default()
    };
    Actor {
        id: Some(id(name)),
        state: Some(ActorState::default()),
        settings: Some(settings),
        actions: actions.iter().map(|action| Action { name: (*action).into() }).collect(),
        timer_actions: Vec::new(),
        metadata: Some(Metadata::default()),
    }
}
