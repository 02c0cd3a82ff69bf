//! NATS: calls between actor systems, and broadcasts between proxies of one.

use super::{Default, MINUTE, Setting, setting};
use crate::config::lists;
use crate::config::value::Kind;

/// In the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "SPAWN_USE_INTERNAL_NATS",
        Kind::Switch,
        Default::Is("false"),
        "Whether calls for actor systems that are not registered here go over NATS; see nats.md.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_HOSTS",
        Kind::Form("addresses separated by commas, such as nats://10.0.0.4:4222", lists::servers),
        Default::Is("nats://127.0.0.1:4222"),
        "Servers of NATS; the proxy is connected to one of them, and to another one when that fails.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_BACKOFF_PERIOD",
        Kind::Time { min: 1, max: 10 * MINUTE },
        Default::Is("3s"),
        "The longest pause between tries to connect to NATS; pauses begin at 50 ms.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_AUTH",
        Kind::Switch,
        Default::Is("false"),
        "Whether the proxy shows NATS who it is.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_AUTH_TYPE",
        Kind::Choice(&["simple", "jwt"]),
        Default::Is("simple"),
        "By what: a user and a password, or a token or bearer JWT.",
    ),
    setting("SPAWN_INTERNAL_NATS_AUTH_USER", Kind::Text, Default::Is("admin"), "The user."),
    setting(
        "SPAWN_INTERNAL_NATS_AUTH_PASS",
        Kind::Secret,
        Default::Unset,
        "The password; unset: admin, as in Spawn.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_AUTH_PASS_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_AUTH_JWT",
        Kind::Secret,
        Default::Unset,
        "The token, or the JWT of a user that may go without a signature.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_AUTH_JWT_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "TIDEGATE_NATS_CREDS_FILE",
        Kind::Text,
        Default::Unset,
        "A file of credentials for NATS, with a JWT and the seed of its key, for connections without …_NATS_AUTH.",
    ),
    setting(
        "SPAWN_INTERNAL_NATS_TLS",
        Kind::Switch,
        Default::Is("false"),
        "Whether connections to NATS are encrypted; one that cannot be is not used.",
    ),
    setting(
        "TIDEGATE_NATS_TLS_CA",
        Kind::Text,
        Default::Unset,
        "A PEM file with the roots of NATS servers' certificates; unset: those that the system trusts.",
    ),
    setting(
        "TIDEGATE_NATS_TLS_CERT",
        Kind::Text,
        Default::Unset,
        "A PEM file with the certificate that is shown to NATS servers that ask for one.",
    ),
    setting("TIDEGATE_NATS_TLS_KEY", Kind::Text, Default::Unset, "A PEM file with its key."),
    setting(
        "TIDEGATE_NATS_CALLS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("4096"),
        "Calls over NATS under way at once, in each direction; more are refused at once.",
    ),
    setting(
        "SPAWN_PUBSUB_ADAPTER",
        Kind::Choice(&["native", "nats"]),
        Default::Is("native"),
        "Whom broadcasts reach: subscribers of this proxy, or over NATS those of all proxies with the same system; see channels.md.",
    ),
    setting(
        "SPAWN_PUBSUB_NATS_HOSTS",
        Kind::Form("addresses separated by commas, such as nats://10.0.0.4:4222", lists::servers),
        Default::Is("nats://127.0.0.1:4222"),
        "Servers of NATS for broadcasts.",
    ),
    setting(
        "SPAWN_PUBSUB_NATS_AUTH",
        Kind::Switch,
        Default::Is("false"),
        "Whether the proxy shows these who it is.",
    ),
    setting(
        "SPAWN_PUBSUB_NATS_AUTH_TYPE",
        Kind::Choice(&["simple", "jwt"]),
        Default::Is("simple"),
        "By what: a user and a password, or a token or bearer JWT.",
    ),
    setting("SPAWN_PUBSUB_NATS_AUTH_USER", Kind::Text, Default::Is("admin"), "The user."),
    setting(
        "SPAWN_PUBSUB_NATS_AUTH_PASS",
        Kind::Secret,
        Default::Unset,
        "The password; unset: admin, as in Spawn.",
    ),
    setting(
        "SPAWN_PUBSUB_NATS_AUTH_PASS_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "SPAWN_PUBSUB_NATS_AUTH_JWT",
        Kind::Secret,
        Default::Unset,
        "The token, or the JWT of a user that may go without a signature.",
    ),
    setting(
        "SPAWN_PUBSUB_NATS_AUTH_JWT_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "SPAWN_PUBSUB_NATS_TLS",
        Kind::Switch,
        Default::Is("false"),
        "Whether connections to these are encrypted, with TIDEGATE_NATS_TLS_CA and its like; one that cannot be is not used.",
    ),
];
