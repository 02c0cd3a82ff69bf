//! Register: registers the counters with a proxy, as an SDK does first.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hyper::Method;
use prost::Message;

use crate::client::Client;
use crate::counter::{ACTION, EMIT, actor_name};
use crate::proto::eigr::functions::protocol::actors::{
    Action, Actor, ActorId, ActorSettings, ActorSnapshotStrategy, ActorState, ActorSystem, Kind,
    Registry, TimeoutStrategy, actor_snapshot_strategy,
};
use crate::proto::eigr::functions::protocol::{
    RegistrationRequest, RegistrationResponse, ServiceInfo, Status,
};

/// Largest request that a proxy accepts, in bytes; a larger registration is refused as a whole.
const MAX_BODY_BYTES: usize = 8_000_000;

/// Registers `actors` stateful counters with a snapshot every `snapshot_ms`.
///
/// # Errors
/// When the proxy cannot be reached or refuses the registration.
pub async fn register(
    client: &mut Client,
    system: &str,
    actors: usize,
    snapshot_ms: u32,
) -> anyhow::Result<()> {
    let body = registration(system, actors, snapshot_ms).encode_to_vec();
    ensure!(
        body.len() <= MAX_BODY_BYTES,
        "{actors} actors make a registration of {} bytes, a proxy takes {MAX_BODY_BYTES}: use fewer --actors",
        body.len()
    );
    let request = client.request(Method::POST, "/api/v1/system".parse()?, Bytes::from(body));
    let response = client.call(request).await.context("registering the actors")?;
    let http = response.status();
    let answer = RegistrationResponse::decode(response.into_body()).with_context(|| {
        format!("the answer to the registration ({http}) is no RegistrationResponse")
    })?;
    let status = answer.status.unwrap_or_default();
    if !http.is_success() || status.status() != Status::Ok {
        bail!("registration refused ({http}): {:?} {}", status.status(), status.message);
    }
    Ok(())
}

fn registration(system: &str, actors: usize, snapshot_ms: u32) -> RegistrationRequest {
    let actors: BTreeMap<_, _> = (0..actors)
        .map(actor_name)
        .map(|name| (name.clone(), counter(system, name, snapshot_ms)))
        .collect();
    RegistrationRequest {
        service_info: Some(ServiceInfo {
            service_name: "tidegate-loadtests".into(),
            service_version: env!("CARGO_PKG_VERSION").into(),
            service_runtime: "rust".into(),
            support_library_name: "tidegate-loadtests".into(),
            support_library_version: env!("CARGO_PKG_VERSION").into(),
            protocol_major_version: 1,
            protocol_minor_version: 1,
        }),
        actor_system: Some(ActorSystem {
            name: system.into(),
            registry: Some(Registry { actors }),
        }),
    }
}

/// Has no metadata, so the proxy does not warm the actor up: the first call activates it.
fn counter(system: &str, name: String, snapshot_ms: u32) -> Actor {
    let timeout = TimeoutStrategy { timeout: i64::from(snapshot_ms) };
    Actor {
        id: Some(ActorId { name, system: system.into(), parent: String::new() }),
        state: Some(ActorState::default()),
        settings: Some(ActorSettings {
            kind: Kind::Named.into(),
            stateful: true,
            snapshot_strategy: Some(ActorSnapshotStrategy {
                strategy: Some(actor_snapshot_strategy::Strategy::Timeout(timeout)),
            }),
            ..ActorSettings::default()
        }),
        actions: [ACTION, EMIT].map(|name| Action { name: name.into() }).into(),
        ..Actor::default()
    }
}
