//! Process: connections, the end, the log, and keys.

use super::{Default, GIB, LEVELS, MIB, MINUTE, Setting, TIB, setting};
use crate::config::forms;
use crate::config::value::Kind;

/// In the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "TIDEGATE_HTTP_CONNECTIONS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("10000"),
        "Client connections at once; beyond it those idle longest are closed for new ones, and when none is idle, new ones wait.",
    ),
    setting(
        "TIDEGATE_HTTP_PEER_CONNECTIONS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Unset,
        "Connections of one client address (in IPv6: of one /64) at once; more are closed and counted. Unset: a quarter of TIDEGATE_HTTP_CONNECTIONS, and no such bound for this machine.",
    ),
    setting(
        "TIDEGATE_HTTP_HEAD_BYTES",
        Kind::Bytes { min: 8192, max: 16 * MIB },
        Default::Is("64 KiB"),
        "Largest head of a request.",
    ),
    setting(
        "TIDEGATE_HTTP_BODY_BYTES",
        Kind::Bytes { min: 1024, max: GIB },
        Default::IsOrThousandths("8000000", 35),
        "Largest body of a request.",
    ),
    setting(
        "TIDEGATE_HTTP_BODIES_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(45),
        "Bodies of all requests in flight; beyond it 503. At least one body (TIDEGATE_HTTP_BODY_BYTES).",
    ),
    setting(
        "TIDEGATE_HTTP_ANSWERS_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(80),
        "Answers of all requests until clients have taken them; beyond it those over 16 KiB wait up to 2 s, then 503.",
    ),
    setting(
        "TIDEGATE_HTTP_HEAD_TIMEOUT",
        Kind::Time { min: 1, max: 10 * MINUTE },
        Default::Is("10s"),
        "How long the head of a request may take to arrive.",
    ),
    setting(
        "TIDEGATE_HTTP_BODY_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("30s"),
        "How long the body of a request may take to arrive.",
    ),
    setting(
        "TIDEGATE_HTTP_IDLE_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("75s"),
        "How long a connection may stay without a request, from the last byte of its last answer.",
    ),
    setting(
        "TIDEGATE_HTTP_WRITE_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("30s"),
        "How long a client may go without taking a byte of its answer.",
    ),
    setting(
        "TIDEGATE_DRAIN_DELAY",
        Kind::Time { min: 0, max: 10 * MINUTE },
        Default::Is("6s"),
        "After SIGTERM: how long calls are still served while readiness says no.",
    ),
    setting(
        "TIDEGATE_DRAIN_TIMEOUT",
        Kind::Time { min: 0, max: 60 * MINUTE },
        Default::Is("25s"),
        "After SIGTERM: how long all of it may take, the delay included.",
    ),
    setting(
        "SPAWN_PROXY_LOGGER_LEVEL",
        Kind::Choice(LEVELS),
        Default::Is("info"),
        "Least level that is logged.",
    ),
    setting(
        "TIDEGATE_LOG_FORMAT",
        Kind::Choice(&["text", "json"]),
        Default::Is("text"),
        "How lines of the log look: text for people, or JSON.",
    ),
    setting(
        "TIDEGATE_LOG_LINES_PER_KIND",
        Kind::Count { min: 0, max: 1_000_000 },
        Default::Is("100"),
        "Most lines of one kind (one place in the program) in ten seconds. More are left out, and one line says later how many. 0: any number.",
    ),
    setting(
        "SPAWN_DISABLE_METRICS",
        Kind::Switch,
        Default::Is("false"),
        "Whether /metrics is off.",
    ),
    setting(
        "SPAWN_CONSOLE_METRICS",
        Kind::Switch,
        Default::Is("false"),
        "Whether the log has a line of metrics every ten seconds.",
    ),
    setting(
        "TIDEGATE_SPAWN_METRICS",
        Kind::Switch,
        Default::Is("false"),
        "Whether /metrics also has the names of Spawn (spawn_*, vm_*), with systems and actions as labels, 256 pairs at most.",
    ),
    setting("TIDEGATE_CONFIG", Kind::Text, Default::Unset, "A TOML file of settings, as --config."),
    setting(
        "SPAWN_STATESTORE_KEY",
        Kind::SecretForm("32 bytes in base64", forms::key),
        Default::Unset,
        "Key that seals states at rest; unset: they are kept in the clear.",
    ),
    setting(
        "SPAWN_STATESTORE_KEY_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "TIDEGATE_STATESTORE_OLD_KEYS",
        Kind::SecretForm("such keys separated by commas", forms::keys),
        Default::Unset,
        "Former keys, that open what they sealed until `tidegate reseal` has been run.",
    ),
    setting(
        "TIDEGATE_STATESTORE_OLD_KEYS_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds them, instead.",
    ),
    setting(
        "TIDEGATE_SEALING",
        Kind::Choice(&["place", "spawn"]),
        Default::Is("place"),
        "How new values are sealed: bound to their place in the store, or as Spawn seals. Both are read.",
    ),
];
