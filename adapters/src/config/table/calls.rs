//! Calls: what is kept of actors, and how calls pass.

use super::{Default, GIB, MIB, MINUTE, RATE, Setting, TIB, setting};
use crate::config::forms;
use crate::config::value::Kind;

/// In the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "TIDEGATE_DURABILITY",
        Kind::Choice(&["acknowledged", "snapshot"]),
        Default::Is("acknowledged"),
        "When a change is on disk: before its reply, or at the next snapshot.",
    ),
    setting(
        "TIDEGATE_REVISIONS",
        Kind::Choice(&["snapshot", "every"]),
        Default::Is("snapshot"),
        "When history is appended: with snapshots and checkpoints, or with every durable change.",
    ),
    setting(
        "TIDEGATE_EMPTY_TAGS",
        Kind::Choice(&["keep", "replace"]),
        Default::Is("keep"),
        "What an empty map of tags from a host does to the tags; upstream replaces them.",
    ),
    setting(
        "TIDEGATE_MAX_STATE_BYTES",
        Kind::Bytes { min: 1024, max: GIB },
        Default::IsOrThousandths("4 MiB", 16),
        "Largest state; a larger one is an error, and the old one stays. A state that is above it already may stay or shrink.",
    ),
    setting(
        "TIDEGATE_MAX_REGISTERED_PER_REQUEST",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("10000"),
        "Definitions of one registration, and names of one spawn, at most; more are a 413.",
    ),
    setting(
        "TIDEGATE_MAX_REGISTERED_PER_SYSTEM",
        Kind::Count { min: 1, max: 1_000_000_000 },
        Default::Is("1000000"),
        "Definitions and spawned names of one system at most; a new one is a 503 then. What a store holds beyond is served.",
    ),
    setting(
        "TIDEGATE_MAX_REGISTERED",
        Kind::Count { min: 1, max: 1_000_000_000 },
        Default::Is("2000000"),
        "The same of all systems together.",
    ),
    setting(
        "TIDEGATE_MAX_LIVE_ACTORS",
        Kind::Count { min: 1, max: 1_000_000_000 },
        Default::Is("100000"),
        "Live actors at most; beyond it the longest unused are deactivated.",
    ),
    setting(
        "TIDEGATE_LIVE_BYTES",
        Kind::Bytes { min: 64 << 10, max: TIB },
        Default::Thousandths(60),
        "Tags and states in memory, and 1 KiB for each actor there, at most; beyond it the longest unused are deactivated, stateless ones last: they lose their memory.",
    ),
    setting(
        "TIDEGATE_START_TIMEOUT",
        Kind::Time { min: 1, max: 10 * MINUTE },
        Default::Is("10s"),
        "How long a call may take until its host is called, unless it brings a request-timeout.",
    ),
    setting(
        "TIDEGATE_HOST_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("60s"),
        "How long a host may take to answer.",
    ),
    setting(
        "TIDEGATE_HOST_CONNECT_TIMEOUT",
        Kind::Time { min: 1, max: MINUTE },
        Default::Is("5s"),
        "How long connecting to a host may take.",
    ),
    setting(
        "TIDEGATE_HOST_GRACE",
        Kind::Time { min: 0, max: 10 * MINUTE },
        Default::Is("4s"),
        "How long calls wait for a host that was reached before and refuses connections now. Then synchronous calls of the host are a 502 at once, until it is back.",
    ),
    setting(
        "TIDEGATE_ASYNC_PATIENCE",
        Kind::Time { min: 0, max: 24 * 60 * MINUTE },
        Default::Is("60s"),
        "How long accepted asynchronous calls wait for a host that cannot be reached, or for a store that fails.",
    ),
    setting(
        "SPAWN_DELAYED_INVOKES",
        Kind::Switch,
        Default::Is("true"),
        "Whether calls for a later time are taken, and timers of actors run. When off, such calls are a 501.",
    ),
    setting(
        "TIDEGATE_HOST_CONNECTIONS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("4096"),
        "Calls in flight per host.",
    ),
    setting(
        "TIDEGATE_HOST_BODIES_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(75),
        "Answers of hosts that are being read, and at least one of the largest; beyond it they wait unread up to 10 s, then 503.",
    ),
    setting(
        "TIDEGATE_RETRY_PERCENT",
        Kind::Count { min: 0, max: 100 },
        Default::Is("20"),
        "Retries of what fails at a host or at the store: that many for 100 calls of the host, or loads from the store.",
    ),
    setting(
        "TIDEGATE_RETRY_PER_SECOND",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("10"),
        "Retries that are allowed besides, per second, for each host and for the store.",
    ),
    setting(
        "PROXY_HTTP_CLIENT_ADAPTER_POOL_SIZE",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Unset,
        "The same, under the name of the protocol; wins when both are set.",
    ),
    setting(
        "PROXY_HTTP_CLIENT_ADAPTER_POOL_MAX_IDLE_TIMEOUT",
        Kind::Time { min: 1, max: MINUTE },
        Default::Is("1s"),
        "How long a connection to a host may wait for its next call.",
    ),
    setting(
        "TIDEGATE_HOST_BODY_BYTES",
        Kind::Bytes { min: 1024, max: GIB },
        Default::IsOrThousandths("16 MiB", 65),
        "Largest answer of a host.",
    ),
    setting(
        "ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND",
        Kind::Count { min: -1, max: 1_000_000 },
        Default::Unset,
        "Calls that workers have in hand at once; unset or -1: as many as connections to hosts.",
    ),
    setting(
        "TIDEGATE_ADMISSION_EVENTS",
        Kind::Count { min: 8, max: 100_000_000 },
        Default::Is("16384"),
        "Calls admitted and not yet answered.",
    ),
    setting(
        "TIDEGATE_ADMISSION_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(40),
        "Their bytes.",
    ),
    setting(
        "TIDEGATE_ADMISSION_FULL",
        Kind::Form("shed, or wait: and a time of 1 ms to 60 s, such as wait:500ms", forms::full),
        Default::Is("shed"),
        "What happens beyond these bounds: 503 at once, or only when nothing has become free in that time.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_PEER",
        RATE,
        Default::Unset,
        "Calls of one client address (in IPv6: of one /64; all clients of the Unix socket together); beyond it 429.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_IDENTITY",
        RATE,
        Default::Unset,
        "Calls of one client that has a name, from its token or certificate, at whatever address; beyond it 429.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_SYSTEM",
        RATE,
        Default::Unset,
        "Calls of one system; beyond it 429.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_DEFINITION",
        RATE,
        Default::Unset,
        "Calls of all actors made from one definition; beyond it 429.",
    ),
    setting(
        "TIDEGATE_CHECKPOINT_EVENTS",
        Kind::Count { min: 8, max: 100_000_000 },
        Default::Is("8192"),
        "Changes of stateful actors on their way to the store: each takes its place before its action runs, until its outcome is known.",
    ),
    setting(
        "TIDEGATE_CHECKPOINT_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(110),
        "Their bytes, at least 16 KiB each until the action has run; at least three times TIDEGATE_MAX_STATE_BYTES, to which the default is raised.",
    ),
    setting(
        "TIDEGATE_EFFECTS_EVENTS",
        Kind::Count { min: 8, max: 100_000_000 },
        Default::Is("8192"),
        "Side effects that wait to be sent.",
    ),
    setting(
        "TIDEGATE_EFFECTS_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(15),
        "Their bytes.",
    ),
    setting(
        "TIDEGATE_DEAD_LETTERS",
        Kind::Count { min: 1, max: 10_000_000 },
        Default::Is("16384"),
        "Side effects that cannot be delivered and are kept. Beyond it, the ones that are dead longest are dropped, with a line in the log.",
    ),
    setting(
        "TIDEGATE_DEAD_LETTERS_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Is("256MiB"),
        "Their bytes in the store.",
    ),
    setting(
        "TIDEGATE_DEAD_LETTERS_PER_SOURCE",
        Kind::Count { min: 1, max: 10_000_000 },
        Default::Is("1024"),
        "Those of one actor. Beyond it, its first ones are dropped.",
    ),
    setting(
        "TIDEGATE_DEAD_LETTERS_PER_SOURCE_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Is("16MiB"),
        "Their bytes in the store.",
    ),
    setting(
        "TIDEGATE_BROADCAST_EVENTS",
        Kind::Count { min: 8, max: 100_000_000 },
        Default::Is("8192"),
        "Broadcasts on their way to subscribers, and as many deliveries of them that wait or run.",
    ),
    setting(
        "TIDEGATE_BROADCAST_BYTES",
        Kind::Bytes { min: MIB / 16, max: TIB },
        Default::Thousandths(3),
        "Bytes of these broadcasts, each counted once.",
    ),
];
