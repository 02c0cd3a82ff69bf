//! NATS: calls between actor systems.

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
        "TIDEGATE_NATS_CALLS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("4096"),
        "Calls over NATS under way at once, in each direction; more are refused at once.",
    ),
];
