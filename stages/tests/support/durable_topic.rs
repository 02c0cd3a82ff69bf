//! A durable topic, `news`, and what is seen of it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use tidegate_stages::access::Pattern;
use tidegate_stages::actor::{Channel, Definition};
use tidegate_stages::mesh::TopicView;
use tidegate_stages::topics::rules::{TopicRule, TopicRules};
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

use crate::support::*;

/// Settings with the durable topic `news`.
pub(crate) fn durable(rule: TopicRule) -> Settings {
    let topics = TopicRules::new(vec![(Pattern::parse("news").unwrap(), rule)]);
    Settings { topics, ..Settings::default() }
}

/// A definition that binds `news` to `add`.
pub(crate) fn subscriber(name: &str) -> Definition {
    let channel = Channel { topic: "news".into(), action: "add".into() };
    Definition { channels: Some(vec![channel]), ..definition(name) }
}

/// The only durable topic in use.
pub(crate) fn view(world: &World) -> TopicView {
    world.mesh.durable_topics().pop().unwrap()
}

/// The position of each subscriber, and what it lags behind.
pub(crate) fn positions(world: &World) -> Vec<(String, u64, u64)> {
    let (_, page) = world.mesh.topic_subscribers("s", "news", "", 100).unwrap();
    page.items.into_iter().map(|of| (of.actor, of.position, of.lag)).collect()
}

/// Waits until each subscriber has every event.
pub(crate) async fn caught_up(world: &World) {
    for _ in 0..2_000 {
        sleep(Duration::from_secs(1)).await;
        if positions(world).iter().all(|(.., lag)| *lag == 0) {
            return;
        }
    }
    panic!("{:?}", positions(world));
}
