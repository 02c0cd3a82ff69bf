//! Topics: encodes how far durable topics and their subscribers are.

use bytes::Bytes;
use serde::Serialize;
use tidegate_stages::history::Page;
use tidegate_stages::mesh::{SubscriberView, TopicView};

use super::history::json;

#[derive(Serialize)]
struct Topic<'a> {
    system: &'a str,
    #[serde(rename = "topic")]
    name: &'a str,
    newest: u64,
    subscribers: u64,
    lag: u64,
    missed: u64,
}

impl<'a> Topic<'a> {
    fn of(view: &'a TopicView) -> Self {
        let TopicView { system, topic, newest, subscribers, lag, missed } = view;
        let (newest, subscribers, lag, missed) = (*newest, *subscribers, *lag, *missed);
        Self { system, name: topic, newest, subscribers, lag, missed }
    }
}

/// Encodes a list of topics.
pub fn topics(topics: &[TopicView]) -> Bytes {
    #[derive(Serialize)]
    struct Listing<'a> {
        channels: Vec<Topic<'a>>,
    }
    json(&Listing { channels: topics.iter().map(Topic::of).collect() })
}

/// Encodes a topic and a page of its subscribers.
pub fn subscribers(topic: &TopicView, page: &Page<SubscriberView>) -> Bytes {
    #[derive(Serialize)]
    struct Subscriber<'a> {
        actor: &'a str,
        position: u64,
        lag: u64,
    }
    #[derive(Serialize)]
    struct Shown<'a> {
        channel: Topic<'a>,
        subscribers: Vec<Subscriber<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a str>,
    }
    let subscribers = page.items.iter().map(|view| {
        let SubscriberView { actor, position, lag } = view;
        Subscriber { actor, position: *position, lag: *lag }
    });
    let last = page.items.last().filter(|_| page.more);
    json(&Shown {
        channel: Topic::of(topic),
        subscribers: subscribers.collect(),
        next: last.map(|last| &*last.actor),
    })
}
