//! NATS: where it is.

use super::Reader;
use crate::config::lists::parse_servers;
use crate::nats::NatsOptions;

impl Reader<'_> {
    /// `None`: it is not used.
    pub(super) fn nats(&self) -> Option<NatsOptions> {
        let servers = parse_servers(&self.text("SPAWN_INTERNAL_NATS_HOSTS"));
        self.switch("SPAWN_USE_INTERNAL_NATS").then(|| NatsOptions {
            servers: servers.expect("they were checked"),
            longest_pause: self.time("SPAWN_INTERNAL_NATS_BACKOFF_PERIOD"),
            calls_at_once: self.small("TIDEGATE_NATS_CALLS") as usize,
        })
    }
}
