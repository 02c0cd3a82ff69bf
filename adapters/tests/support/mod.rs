//! Shared by the black-box tests: the built binary, a client, and hosts of every kind.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod counter;
pub(crate) mod faketime;
pub(crate) mod fixture;
pub(crate) mod host;
pub(crate) mod json;
pub(crate) mod ledger;
pub(crate) mod letters;
pub(crate) mod machines;
pub(crate) mod namespace;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod pty;
pub(crate) mod scene;
pub(crate) mod schedules;
pub(crate) mod scrape;
pub(crate) mod tool;
pub(crate) mod workflow;

/// Messages of the protocol, under short names.
pub(crate) mod proto {
    pub(crate) use tidegate::proto::eigr::functions::protocol::actors::{
        Action, Actor, ActorDeactivationStrategy, ActorId, ActorSettings, ActorSnapshotStrategy,
        ActorState, ActorSystem, Kind, Metadata, Registry, TimeoutStrategy,
        actor_deactivation_strategy, actor_snapshot_strategy,
    };
    pub(crate) use tidegate::proto::eigr::functions::protocol::{
        ActorInvocation, ActorInvocationResponse, Context, InvocationRequest, InvocationResponse,
        RegistrationRequest, RegistrationResponse, RequestStatus, ServiceInfo, SpawnRequest,
        SpawnResponse, Status, actor_invocation, actor_invocation_response, invocation_request,
        invocation_response,
    };
    pub(crate) use tidegate::proto::google::protobuf::Any;

    /// Actions that the proxy answers itself.
    pub(crate) const DEFAULT_ACTIONS: [&str; 5] =
        ["get", "Get", "get_state", "getState", "GetState"];
    /// Actions that run on every activation.
    pub(crate) const INIT_ACTIONS: [&str; 4] = ["init", "Init", "setup", "Setup"];
}
