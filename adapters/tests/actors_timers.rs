//! The built binary: registered timers call their actions, also after a SIGKILL and when nobody calls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use support::client::Client;
use support::counter::{Counter, SYSTEM, definition, register};
use support::host::{Answer, Call, Host, Script};
use support::proto::{Action, Actor, ActorInvocation, Kind};
use support::proxy::{Proxy, embedded};
use tidegate::proto::eigr::functions::protocol::actors::FixedTimerAction;
use tokio::time::{sleep, timeout};

const PERIOD_MS: i32 = 100;
/// Tenfold slack and more: what is waited for takes some periods.
const PATIENCE: Duration = Duration::from_secs(30);

/// A counting host that notes its calls.
#[derive(Debug, Default)]
struct Noting {
    counter: Arc<Counter>,
    calls: Mutex<Vec<ActorInvocation>>,
}

impl Script for Noting {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        let invocation = ActorInvocation::decode(call.body.clone()).unwrap();
        self.calls.lock().push(invocation);
        Arc::clone(&self.counter).answer(call)
    }
}

impl Noting {
    fn ticks(&self, action: &str) -> Vec<ActorInvocation> {
        let of_action = |call: &&ActorInvocation| call.action_name == action;
        self.calls.lock().iter().filter(of_action).cloned().collect()
    }

    async fn until_ticks(&self, action: &str, count: usize) {
        let ticked = timeout(PATIENCE, async {
            while self.ticks(action).len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let ticked = ticked.await.is_ok();
        assert!(ticked, "{} ticks of {action}, not {count}", self.ticks(action).len());
    }
}

/// A counting actor with a timer.
fn timed(name: &str, action: &str) -> Actor {
    let action = Some(Action { name: action.into() });
    let timer_actions = vec![FixedTimerAction { seconds: PERIOD_MS, action }];
    Actor { timer_actions, ..definition(name, Kind::Named) }
}

async fn start(host: &Host, directory: &std::path::Path) -> (Proxy, Client) {
    let (port, store) = (host.port(), embedded(directory, "1"));
    let mut settings: Vec<(&str, &str)> = store.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    settings.extend([("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &port[..])]);
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

#[tokio::test]
async fn timers_tick_go_on_after_a_kill_and_are_replaced_with_their_definition() {
    let noting = Arc::<Noting>::default();
    let host = Host::start(Arc::clone(&noting));
    let directory = tempfile::tempdir().unwrap();
    let (mut proxy, mut client) = start(&host, directory.path()).await;
    register(&mut client, vec![timed("joe", "tick")]).await;
    noting.until_ticks("tick", 3).await;
    let tick = noting.ticks("tick").pop().unwrap();
    let caller = tick.caller.unwrap();
    assert_eq!((&caller.name[..], &caller.system[..]), ("joe", SYSTEM));

    proxy.kill().await;
    let before = noting.ticks("tick").len();
    (proxy, client) = start(&host, directory.path()).await;
    // Nobody calls and nobody registers.
    noting.until_ticks("tick", before + 3).await;

    register(&mut client, vec![timed("joe", "other")]).await;
    noting.until_ticks("other", 1).await;
    let before = noting.ticks("tick").len();
    noting.until_ticks("other", 4).await;
    assert_eq!(noting.ticks("tick").len(), before, "the former timer has ended");
    let last = noting.ticks("other").pop().unwrap();
    assert!(last.current_context.unwrap().state.is_some(), "the state has stayed");
    assert!(proxy.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn timers_that_do_not_tick_are_told_of_once_at_their_registration() {
    let host = Host::start(Arc::<Noting>::default());
    let port = host.port();
    for (is_on, why) in [("false", "SPAWN_DELAYED_INVOKES is false"), ("true", "no metadata")] {
        let settings = [
            ("PROXY_DATABASE_TYPE", "memory"),
            ("USER_FUNCTION_PORT", port.as_str()),
            ("SPAWN_DELAYED_INVOKES", is_on),
            ("TIDEGATE_DRAIN_DELAY", "0"),
        ];
        let proxy = Proxy::start(&settings).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        for _ in 0..2 {
            let joe = Actor { metadata: None, ..timed("joe", "tick") };
            register(&mut client, vec![joe]).await;
        }
        let said = proxy.said(PATIENCE).await;
        let told: Vec<_> = said.iter().filter(|line| line.contains("has timers")).collect();
        assert!(told.len() == 1 && told[0].contains(why), "{said:?}");
    }
}
