//! Pools: calls are shared among members, which a host sees under the name of the pool; kinds that are NAMED here say so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use support::client::Client;
use support::counter::{SYSTEM, add, call, definition, get_state, register};
use support::host::{Answer, Call, Host, Script};
use support::proto::{
    Actor, ActorInvocation, ActorInvocationResponse, Any, Context, InvocationRequest, Kind,
    actor_invocation_response, invocation_response,
};
use support::proxy::{Proxy, embedded};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long something that has to happen may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A host that counts the calls of each member in the member's own state, and holds back those of the metadata `wait`.
#[derive(Debug, Default)]
struct Counting {
    /// Name and parent of the called actors, as often as they were called.
    called: Mutex<BTreeMap<(String, String), usize>>,
    waiting: AtomicUsize,
    go_on: Notify,
}

impl Script for Counting {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let id = invocation.actor.unwrap();
            let context = invocation.current_context.unwrap();
            assert_eq!(context.self_.as_ref(), Some(&id));
            *self.called.lock().entry((id.name.clone(), id.parent.clone())).or_default() += 1;
            if context.metadata.contains_key("wait") {
                let go_on = self.go_on.notified();
                self.waiting.fetch_add(1, Ordering::SeqCst);
                go_on.await;
            }
            if context.metadata.contains_key("fail") {
                return None;
            }
            let count = context.state.map_or(0, |state| state.value[0]) + 1;
            let count = Any { type_url: "type.test/Count".into(), value: Bytes::from(vec![count]) };
            Some(Answer::message(&ActorInvocationResponse {
                actor_name: id.name,
                actor_system: id.system,
                payload: Some(actor_invocation_response::Payload::Value(count.clone())),
                updated_context: Some(Context { state: Some(count), ..Context::default() }),
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

impl Counting {
    fn take(&self) -> BTreeMap<(String, String), usize> {
        std::mem::take(&mut *self.called.lock())
    }
}

fn pool(name: &str, min: i32, max: i32) -> Actor {
    let mut actor = definition(name, Kind::Pooled);
    let settings = actor.settings.as_mut().unwrap();
    (settings.min_pool_size, settings.max_pool_size) = (min, max);
    actor
}

fn pooled(name: &str, metadata: &[&str]) -> InvocationRequest {
    let metadata = metadata.iter().map(|key| ((*key).to_owned(), String::new())).collect();
    InvocationRequest { pooled: true, metadata, ..call(name, "add") }
}

/// Status and count of an answer.
async fn ask(client: &mut Client, call: &InvocationRequest) -> (u16, u8) {
    let (status, response) = client.invoke(call).await.unwrap();
    match response.payload {
        Some(invocation_response::Payload::Value(value)) => (status, value.value[0]),
        _ => (status, 0),
    }
}

async fn start<S: Script>(host: &Arc<S>, settings: &[(&str, &str)]) -> (Host, Proxy, Client) {
    let host = Host::start(Arc::clone(host));
    let port = host.port();
    let mut all = vec![("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &*port)];
    all.extend(settings);
    let proxy = Proxy::start(&all).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (host, proxy, client)
}

#[tokio::test]
async fn calls_at_once_go_to_members_of_their_own_and_the_host_sees_one_name() {
    let counting = Arc::new(Counting::default());
    let (_host, proxy, mut client) = start(&counting, &[("PROXY_DATABASE_TYPE", "memory")]).await;
    register(&mut client, vec![pool("pool", 1, 4)]).await;
    // None is started by the registration.
    sleep(Duration::from_millis(100)).await;
    assert!(counting.take().is_empty());

    let mut at_once = JoinSet::new();
    for _ in 0..4 {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        at_once.spawn(async move { ask(&mut client, &pooled("pool", &["wait"])).await });
    }
    let all_wait = async {
        while counting.waiting.load(Ordering::SeqCst) < 4 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LIMIT, all_wait).await.expect("four members work at once");
    counting.go_on.notify_waiters();
    assert_eq!(at_once.join_all().await, [(200, 1); 4]);
    let member = |number: u32| ("pool".to_owned(), format!("pool-{number}"));
    let members: BTreeMap<_, _> = (1..=4).map(|number| (member(number), 1)).collect();
    assert_eq!(counting.take(), members);

    // One that fails hurts no other, nor itself.
    assert_eq!(ask(&mut client, &pooled("pool", &["fail"])).await.0, 502);
    let failed = counting.take();
    for _ in 0..40 {
        assert_eq!(ask(&mut client, &pooled("pool", &[])).await.0, 200);
    }
    let called = counting.take();
    assert_eq!(called.keys().collect::<BTreeSet<_>>(), members.keys().collect());
    assert!(failed.keys().all(|member| called.contains_key(member)));

    // Without `pooled`, the name of the pool is one more actor.
    assert_eq!(ask(&mut client, &call("pool", "add")).await, (200, 1));
    assert_eq!(ask(&mut client, &call("pool", "add")).await, (200, 2));
    assert_eq!(counting.take(), [(("pool".to_owned(), String::new()), 2)].into());
    // An actor that is no pool runs a pooled call itself.
    register(&mut client, vec![definition("alone", Kind::Named)]).await;
    assert_eq!(ask(&mut client, &pooled("alone", &[])).await, (200, 1));
    // A pool that is not registered is not found.
    assert_eq!(ask(&mut client, &pooled("nobody", &[])).await.0, 404);
}

#[tokio::test]
async fn a_pool_keeps_no_state_and_what_was_stored_under_its_name_stays() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Arc::new(support::counter::Counter::default());
    let host = Host::start(Arc::clone(&counter));
    let port = host.port();
    let settings = embedded(directory.path(), &port);
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    for _ in 0..3 {
        add(&mut client, "joe").await.unwrap();
    }
    assert_eq!(get_state(&mut client, "joe").await, 3);
    register(&mut client, vec![pool("joe", 1, 2)]).await;
    // What is in memory of the actor stays there until it leaves.
    assert_eq!(proxy.terminate(LIMIT).await.code(), Some(0));

    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(get_state(&mut client, "joe").await, 0, "the stored state is not used");
    assert_eq!(client.invoke(&pooled("joe", &[])).await.unwrap().0, 200);
    add(&mut client, "joe").await.unwrap();
    assert_eq!(get_state(&mut client, "joe").await, 1);
    assert_eq!(proxy.terminate(LIMIT).await.code(), Some(0));

    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(get_state(&mut client, "joe").await, 0, "a pool keeps nothing");
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(get_state(&mut client, "joe").await, 3, "the stored state is there again");
}

#[tokio::test]
async fn kinds_of_later_protocols_are_named_actors() {
    let counting = Arc::new(Counting::default());
    let log = tempfile::NamedTempFile::new().unwrap();
    let host = Host::start(Arc::clone(&counting));
    let port = host.port();
    let settings = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &*port),
    ];
    let proxy = Proxy::logging_to(log.reopen().unwrap(), &settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let kinds = [("unset", 0), ("proxy", 4), ("task", 5), ("projection", 6), ("later", 77)];
    let of_kind = |(name, kind): (&str, i32)| {
        let mut actor = definition(name, Kind::Named);
        actor.settings.as_mut().unwrap().kind = kind;
        actor
    };
    register(&mut client, kinds.map(of_kind).to_vec()).await;
    for (name, _) in kinds {
        assert_eq!(ask(&mut client, &call(name, "add")).await, (200, 1), "{name}");
    }
    assert_eq!(proxy.terminate(LIMIT).await.code(), Some(0));
    let log = std::fs::read_to_string(log.path()).unwrap();
    let warned = log.lines().filter(|line| line.contains("it is a NAMED actor"));
    let warned: Vec<_> = warned.filter_map(|line| line.split("actor=").nth(1)).collect();
    assert_eq!(warned.len(), 2, "{log}");
    for name in ["projection", "later"] {
        assert!(warned.iter().any(|line| line.starts_with(&format!("{SYSTEM}/{name} "))), "{log}");
    }
}
