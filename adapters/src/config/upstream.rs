//! Upstream: settings of Spawn that have no effect here. They are accepted, so that a deployment starts unchanged.

/// Reasons, each with the names that have no effect for that reason.
pub(super) const NO_EFFECT: &[(&str, &[&str])] = &[
    ("every registered system is served", &["PROXY_ACTOR_SYSTEM_NAME"]),
    ("a free slot is asked for at once", &["ACTORS_GLOBAL_BACKPRESSURE_MIN_DEMAND"]),
    (
        "there is no cluster yet",
        &[
            "PROXY_APP_NAME",
            "NODE_IP",
            "PROXY_CLUSTER_STRATEGY",
            "PROXY_HEADLESS_SERVICE",
            "PROXY_CLUSTER_POLLING",
            "PROXY_CLUSTER_GOSSIP_BROADCAST_ONLY",
            "PROXY_CLUSTER_GOSSIP_REUSE_ADDRESS",
            "PROXY_CLUSTER_GOSSIP_MULTICAST_ADDRESS",
            "SPAWN_STATE_HANDOFF_SYNC_INTERVAL",
            "SPAWN_CRDT_SHIP_INTERVAL",
            "SPAWN_CRDT_SHIP_DEBOUNCE",
            "SPAWN_CRDT_SYNC_INTERVAL",
            "SPAWN_SUPERVISORS_STATE_HANDOFF_CONTROLLER",
            "SPAWN_SUPERVISORS_STATE_HANDOFF_MAX_RESTARTS",
            "SPAWN_SUPERVISORS_STATE_HANDOFF_MAX_SECONDS",
            "SPAWN_SUPERVISORS_STATE_HANDOFF_MANAGER_POOL_SIZE",
            "SPAWN_SUPERVISORS_STATE_HANDOFF_MANAGER_CALL_TIMEOUT",
            "SPAWN_SUPERVISORS_STATE_HANDOFF_MANAGER_CALL_POOL_MIN",
            "SPAWN_SUPERVISORS_STATE_HANDOFF_MANAGER_CALL_POOL_MAX",
        ],
    ),
    ("TIDEGATE_HTTP_ADDRESS says where to listen", &["PROXY_HOST_INTERFACE"]),
    ("there is one HTTP client", &["PROXY_HTTP_CLIENT_ADAPTER"]),
    ("there is one pool for all threads", &["PROXY_HTTP_CLIENT_ADAPTER_POOL_SCHEDULERS"]),
    ("connections are bounded by TIDEGATE_HTTP_CONNECTIONS", &["PROXY_HTTP_NUM_ACCEPTORS"]),
    ("demand cannot be switched off", &["ACTORS_GLOBAL_BACKPRESSURE_ENABLED"]),
    (
        "a failing actor ends no other",
        &["SPAWN_SUPERVISORS_ACTORS_MAX_RESTARTS", "SPAWN_SUPERVISORS_ACTORS_MAX_SECONDS"],
    ),
    (
        "what waits for the database is bounded by TIDEGATE_CHECKPOINT_EVENTS",
        &["PROXY_DATABASE_QUEUE_TARGET"],
    ),
    (
        "there is no gRPC server",
        &[
            "PROXY_GRPC_PORT",
            "PROXY_GRPC_SERVER_ENABLED",
            "PROXY_GRPC_REFLECTION_ENABLED",
            "PROXY_GRPC_HTTP_TRANSCODING_ENABLED",
            "PROXY_GRPC_ACTORS_PROTOS_PATH",
            "PROXY_GRPC_INCLUDE_PROTOS_PATH",
            "PROXY_GRPC_COMPILED_MODULES_PATH",
            "PROXY_PROTO_DESCRIPTOR_PATH",
        ],
    ),
];

/// Why a setting of Spawn's database has no effect whose value the database that is used does not take.
pub(super) const OF_ANOTHER_DATABASE: &str =
    "only PROXY_DATABASE_TYPE=scylla reads it, which takes no such value";

/// Names without effect that are `true` or `false`. Another value is a mistake, as it is where it has an effect.
pub(super) const SWITCHES: &[&str] = &[
    "PROXY_CLUSTER_GOSSIP_BROADCAST_ONLY",
    "PROXY_CLUSTER_GOSSIP_REUSE_ADDRESS",
    "ACTORS_GLOBAL_BACKPRESSURE_ENABLED",
    "PROXY_GRPC_SERVER_ENABLED",
    "PROXY_GRPC_REFLECTION_ENABLED",
    "PROXY_GRPC_HTTP_TRANSCODING_ENABLED",
];

/// Names without effect with one harmless value. Every other value asks for a feature that Tidegate does not have.
pub(super) const ASK_UNLESS: &[(&str, &str)] = &[
    ("PROXY_CLUSTER_STRATEGY", "gossip"),
    ("ACTORS_GLOBAL_BACKPRESSURE_ENABLED", "true"),
    ("PROXY_GRPC_SERVER_ENABLED", "false"),
    ("PROXY_GRPC_HTTP_TRANSCODING_ENABLED", "false"),
];
