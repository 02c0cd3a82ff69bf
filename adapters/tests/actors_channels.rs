//! Channels: a broadcast reaches every subscribed actor once, its sender too, and no other.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use support::client::Client;
use support::counter::{SYSTEM, call, definition, register, spawn};
use support::host::{Answer, Call, Host, Script};
use support::proto::{
    Action, Actor, ActorId, ActorInvocation, ActorInvocationResponse, Any, Context, Kind, Status,
    actor_invocation, invocation_request,
};
use support::proxy::Proxy;
use support::scrape::count;
use tidegate::proto::eigr::functions::protocol::actors::Channel;
use tidegate::proto::eigr::functions::protocol::{Broadcast, Workflow, broadcast};
use tidegate::proto::tidegate::api::v1::Published;
use tokio::time::{sleep, timeout};

/// How long something that has to happen may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A host that notes what its actors hear. `send` broadcasts its payload to the topic that its metadata names.
#[derive(Debug, Default)]
struct Square {
    heard: Mutex<Vec<Heard>>,
    /// Whether the actor `slow` takes no message to its end.
    is_blocked: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    actor: String,
    action: String,
    text: String,
    caller: Option<ActorId>,
    metadata: BTreeMap<String, String>,
}

impl Script for Square {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let id = invocation.actor.unwrap();
            let context = invocation.current_context.unwrap();
            let value = match invocation.payload {
                Some(actor_invocation::Payload::Value(value)) => value,
                _ => Any::default(),
            };
            let mut response = ActorInvocationResponse {
                actor_name: id.name.clone(),
                actor_system: id.system,
                updated_context: Some(Context { state: Some(value.clone()), ..Context::default() }),
                ..ActorInvocationResponse::default()
            };
            if invocation.action_name == "send" {
                response.workflow = Some(Workflow {
                    broadcast: Some(Broadcast {
                        channel_group: context.metadata["topic"].clone(),
                        payload: Some(broadcast::Payload::Value(value)),
                    }),
                    ..Workflow::default()
                });
            } else {
                while id.name == "slow" && self.is_blocked.load(Ordering::Acquire) {
                    sleep(Duration::from_millis(5)).await;
                }
                self.heard.lock().push(Heard {
                    actor: id.name,
                    action: invocation.action_name,
                    text: String::from_utf8(value.value.into()).unwrap(),
                    caller: invocation.caller,
                    metadata: context.metadata,
                });
            }
            Some(Answer::message(&response))
        })
    }
}

impl Square {
    /// Waits until so many messages were heard; returns all of them, in the order of their actors.
    async fn heard(&self, count: usize) -> Vec<Heard> {
        self.until(|heard| heard.len() >= count).await;
        // One too many would come now.
        sleep(Duration::from_millis(100)).await;
        let mut heard = std::mem::take(&mut *self.heard.lock());
        heard.sort_by(|one, other| (&one.actor, &one.text).cmp(&(&other.actor, &other.text)));
        heard
    }

    async fn until(&self, is_so: impl Fn(&[Heard]) -> bool) {
        let heard = async {
            while !is_so(&self.heard.lock()) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("heard: {:?}", self.heard.lock()));
    }
}

/// A definition with the actions `send`, `hear` and `receive` that binds these topics to these actions.
fn subscribed(name: &str, kind: Kind, bound: &[(&str, &str)]) -> Actor {
    let channel = |(topic, action): &(&str, &str)| {
        let channel = Channel { topic: (*topic).into(), action: (*action).into() };
        Bytes::from(channel.encode_to_vec())
    };
    let mut actor = definition(name, kind);
    actor.metadata.as_mut().unwrap().channel_group = bound.iter().map(channel).collect();
    let action = |name: &str| Action { name: name.into() };
    actor.actions = ["send", "hear", "receive"].map(action).to_vec();
    actor
}

fn text(text: &str) -> Any {
    Any { type_url: "type.googleapis.com/tidegate.test.Text".into(), value: text.to_owned().into() }
}

/// Lets an actor broadcast; the status of its answer.
async fn send(client: &mut Client, from: &str, topic: &str, message: &str) -> u16 {
    let mut call = call(from, "send");
    call.metadata.insert("topic".into(), topic.into());
    call.payload = Some(invocation_request::Payload::Value(text(message)));
    client.invoke(&call).await.unwrap().0
}

async fn start(square: &Arc<Square>, settings: &[(&str, &str)]) -> (Host, Proxy, Client) {
    let host = Host::start(Arc::clone(square));
    let proxy = proxy(&host, settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (host, proxy, client)
}

async fn proxy(host: &Host, settings: &[(&str, &str)]) -> Proxy {
    let port = host.port();
    let mut all = vec![("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &*port)];
    all.extend(settings);
    Proxy::start(&all).await
}

fn of(heard: &[Heard]) -> Vec<(&str, &str, &str)> {
    heard.iter().map(|one| (&*one.actor, &*one.action, &*one.text)).collect()
}

#[tokio::test]
async fn a_broadcast_reaches_every_subscriber_once_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let square = Arc::new(Square::default());
    let settings = [("TIDEGATE_DATA_DIR", directory.path().to_str().unwrap())];
    let (host, proxy, mut client) = start(&square, &settings).await;
    let definitions = vec![
        subscribed("sender", Kind::Named, &[("news", "hear")]),
        subscribed("both", Kind::Named, &[("news", ""), ("sport", "receive"), ("news", "hear")]),
        subscribed("other", Kind::Named, &[("", "receive"), ("weather", "hear")]),
        subscribed("none", Kind::Named, &[]),
        subscribed("reader", Kind::Unnamed, &[("news", "hear")]),
    ];
    register(&mut client, definitions).await;
    spawn(&mut client, "reader", &["joe", "moe"]).await;

    assert_eq!(send(&mut client, "sender", "news", "one").await, 200);
    let heard = square.heard(4).await;
    let expected = [
        ("both", "receive", "one"),
        ("joe", "hear", "one"),
        ("moe", "hear", "one"),
        ("sender", "hear", "one"),
    ];
    assert_eq!(of(&heard), expected);
    for one in &heard {
        let caller = one.caller.as_ref().unwrap();
        assert_eq!((&*caller.name, &*caller.system, &*caller.parent), ("sender", SYSTEM, ""));
        assert!(one.metadata.is_empty(), "{one:?}");
    }
    assert_eq!(send(&mut client, "none", "sport", "two").await, 200);
    assert_eq!(of(&square.heard(1).await), [("both", "receive", "two")]);
    for nobody in ["nobody", ""] {
        assert_eq!(send(&mut client, "none", nobody, "three").await, 200);
    }
    assert_eq!(send(&mut client, "none", "weather", "rain").await, 200);
    assert_eq!(of(&square.heard(1).await), [("other", "hear", "rain")]);
    // One that was spawned is named with its definition.
    assert_eq!(send(&mut client, "joe", "sport", "spawned").await, 200);
    let heard = square.heard(1).await;
    let caller = heard[0].caller.as_ref().unwrap();
    assert_eq!((&*caller.name, &*caller.parent), ("joe", "reader"));

    // Nobody registers again, and nobody is in memory.
    assert_eq!(proxy.terminate(LIMIT).await.code(), Some(0));
    let proxy = self::proxy(&host, &settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(send(&mut client, "none", "news", "four").await, 200);
    let heard = square.heard(4).await;
    let actors: Vec<_> = heard.iter().map(|one| (&*one.actor, &*one.text)).collect();
    assert_eq!(actors, ["both", "joe", "moe", "sender"].map(|actor| (actor, "four")));
    // A definition that binds no more is subscribed no more, and neither is what was spawned from it.
    let definitions = vec![
        subscribed("sender", Kind::Named, &[("news", "hear")]),
        subscribed("reader", Kind::Unnamed, &[("sport", "hear")]),
    ];
    register(&mut client, definitions).await;
    assert_eq!(send(&mut client, "sender", "news", "five").await, 200);
    assert_eq!(of(&square.heard(1).await), [("sender", "hear", "five")]);
}

#[tokio::test]
async fn a_slow_subscriber_delays_no_other_and_what_it_misses_is_counted() {
    const MESSAGES: usize = 40;
    let square = Arc::new(Square::default());
    square.is_blocked.store(true, Ordering::Release);
    let settings = [("PROXY_DATABASE_TYPE", "memory"), ("TIDEGATE_BROADCAST_EVENTS", "8")];
    let (_host, proxy, mut client) = start(&square, &settings).await;
    let definitions = ["sender", "slow", "quick"];
    let bound: [&[_]; 3] = [&[], &[("news", "hear")], &[("news", "hear")]];
    let definitions = definitions.into_iter().zip(bound);
    let definitions = definitions.map(|(name, bound)| subscribed(name, Kind::Named, bound));
    register(&mut client, definitions.collect()).await;
    for number in 0..MESSAGES {
        assert_eq!(send(&mut client, "sender", "news", &format!("{number:02}")).await, 200);
        square.until(|heard| heard.len() > number).await;
    }
    let heard = square.heard(MESSAGES).await;
    let texts: Vec<_> = (0..MESSAGES).map(|number| format!("{number:02}")).collect();
    assert_eq!(heard.iter().map(|one| one.text.clone()).collect::<Vec<_>>(), texts);
    assert!(heard.iter().all(|one| one.actor == "quick"), "{heard:?}");

    let name = "tidegate_broadcast_deliveries_total{outcome=\"dropped\"}";
    let dropped = count(&proxy, name).await;
    let missed = usize::try_from(dropped).unwrap();
    assert!((MESSAGES / 2..MESSAGES).contains(&missed), "{missed} were left out");
    square.is_blocked.store(false, Ordering::Release);
    let heard = square.heard(MESSAGES - missed).await;
    assert_eq!(heard.len(), MESSAGES - missed);
    // One may be left out that came while a delivery to the other was not quite over.
    let heard: Vec<_> = heard.iter().map(|one| one.text.clone()).collect();
    assert_eq!(heard[0], texts[0]);
    assert!(heard.is_sorted_by(|one, next| one < next), "once, and in order: {heard:?}");
}

#[tokio::test]
async fn an_actor_that_may_not_broadcast_is_told_and_its_state_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    policy(directory.path(), "type: deny\nkinds: broadcast\ntargets: news\n");
    let square = Arc::new(Square::default());
    let policies = directory.path().to_str().unwrap();
    let settings = [("PROXY_DATABASE_TYPE", "memory"), ("TIDEGATE_POLICIES_DIR", policies)];
    let (_host, _proxy, mut client) = start(&square, &settings).await;
    let bound = [("news", "hear"), ("sport", "hear")];
    register(&mut client, vec![subscribed("joe", Kind::Named, &bound)]).await;
    assert_eq!(send(&mut client, "joe", "news", "secret").await, 403);
    let path = format!("/api/v1/system/{SYSTEM}/actors/joe");
    assert_eq!(client.get(&path).await.unwrap().status, 404);
    assert_eq!(send(&mut client, "joe", "sport", "score").await, 200);
    assert_eq!(of(&square.heard(1).await), [("joe", "hear", "score")]);
}

fn policy(directory: &Path, text: &str) {
    std::fs::write(directory.join("test.policy"), text).unwrap();
}

/// Publishes from outside; status, and the body as JSON.
async fn publish(
    client: &mut Client,
    topic: &str,
    message: &Broadcast,
) -> (u16, serde_json::Value) {
    let path = format!("/api/v1/system/{SYSTEM}/channels/{topic}");
    let reply = client.post(&path, message.encode_to_vec().into()).await.unwrap();
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

fn message(channel: &str, words: &str) -> Broadcast {
    let payload = Some(broadcast::Payload::Value(text(words)));
    Broadcast { channel_group: channel.into(), payload }
}

#[tokio::test]
async fn a_client_publishes_and_is_told_how_many_it_reached() {
    let directory = tempfile::tempdir().unwrap();
    policy(directory.path(), "type: deny\nkinds: broadcast\ntargets: secret\n");
    let policies = directory.path().to_str().unwrap();
    let settings = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("TIDEGATE_POLICIES_DIR", policies),
        ("TIDEGATE_RATE_LIMIT_PEER", "1/m:6"),
    ];
    let square = Arc::new(Square::default());
    let (_host, _proxy, mut client) = start(&square, &settings).await;
    let definitions = vec![
        subscribed("joe", Kind::Named, &[("news / all", "hear")]),
        subscribed("moe", Kind::Named, &[("news / all", "receive")]),
        subscribed("zoe", Kind::Named, &[("news / all", "missing")]),
    ];
    register(&mut client, definitions).await;
    let reached = serde_json::json!({ "subscribers": 2, "dropped": 1 });
    let topic = "news%20%2F%20all";
    assert_eq!(publish(&mut client, topic, &message("news / all", "one")).await, (200, reached));
    let heard = square.heard(2).await;
    assert_eq!(of(&heard), [("joe", "hear", "one"), ("moe", "receive", "one")]);
    assert!(heard.iter().all(|one| one.caller.is_none()), "{heard:?}");

    // Nobody listens: that is no mistake.
    let nobody = serde_json::json!({ "subscribers": 0, "dropped": 0 });
    assert_eq!(publish(&mut client, "nobody", &message("", "two")).await, (200, nobody));
    assert_eq!(publish(&mut client, "secret", &message("", "three")).await.0, 403);
    assert_eq!(publish(&mut client, topic, &message("other", "four")).await.0, 400);
    // As protobuf, for those that ask for it.
    let path = format!("/api/v1/system/{SYSTEM}/channels/{topic}");
    let request = hyper::Request::post(path)
        .header("host", "localhost")
        .header("accept", "application/octet-stream")
        .body(http_body_util::Full::new(message("", "five").encode_to_vec().into()))
        .unwrap();
    let published: Published = client.send(request).await.unwrap().decode();
    assert_eq!((published.subscribers, published.dropped), (2, 1));
    assert_eq!(published.status.unwrap().status(), Status::Ok);
    square.heard(2).await;
    // Five were counted before, those that a policy refused and that were no message among them.
    for status in [200, 429] {
        assert_eq!(publish(&mut client, "nobody", &message("", "six")).await.0, status);
    }
}
