//! The console in headless Chromium, against the built binary: `console.mjs` clicks, and asks this program for load and outages.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use support::client::Client;
use support::host::Host;
use support::json::{Gated, send};
use support::proxy::{Proxy, embedded};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// How long the browser may take between two things that it says; what it waits for in the page ends before.
const PATIENCE: Duration = Duration::from_mins(2);
const CARTS: usize = 30;
/// The secret of the proxy whose console asks for one.
const TOKEN: &str = "a-long-secret";

/// A proxy with a shop, and whatever the browser asks for.
struct World {
    proxy: Proxy,
    host: Option<Host>,
    open: watch::Sender<bool>,
    calls: JoinSet<()>,
    /// Calls at a pace.
    answered: Arc<AtomicUsize>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn start(more: &[(&str, &str)]) -> Self {
        let (shop, open) = Gated::new(true);
        let host = Host::start(shop);
        let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
        let settings = [
            ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
            ("TIDEGATE_HOST_CONNECTIONS", "2"),
            ("TIDEGATE_START_TIMEOUT", "300s"),
            ("TIDEGATE_HOST_TIMEOUT", "300s"),
            // A recording looks each five seconds: calls wait for longer.
            ("TIDEGATE_HOST_GRACE", "300s"),
            ("TIDEGATE_REVISIONS", "every"),
            ("TIDEGATE_DURABLE_TOPICS", "orders"),
        ];
        let all = [&embedded(directory.path(), &port)[..], &settings, more].concat();
        let proxy = Proxy::start(&all).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actions = ["add", "wait", "fail"];
        let actors = json!({"system": "shop", "actors": [
            {"name": "counter", "actions": actions},
            {"name": "cart", "kind": "unnamed", "actions": actions},
            {"name": "reader", "actions": actions, "channels": [{"topic": "orders", "action": "add"}]},
        ]});
        let path = ("POST", "/api/v1/system");
        assert_eq!(send(&mut client, path, &[], &actors.to_string()).await.0.status, 200);
        let host = Some(host);
        let (calls, answered) = (JoinSet::new(), Arc::default());
        let world = Self { proxy, host, open, calls, answered, _directory: directory };
        for number in 0..CARTS {
            world.call(&format!("cart-{number:02}"), "add").await;
        }
        world
    }

    async fn call(&self, actor: &str, action: &str) -> u16 {
        call(self.proxy.address(), actor, action).await
    }

    /// Does what the browser asks for.
    async fn carry_out(&mut self, asked: &str) {
        let address = self.proxy.address().to_owned();
        match asked.split(' ').collect::<Vec<_>>()[..] {
            ["load"] => {
                self.calls.spawn(async move {
                    loop {
                        for number in 0..CARTS {
                            call(&address, &format!("cart-{number:02}"), "add").await;
                        }
                    }
                });
            }
            ["many", count] => {
                let mut client = Client::connect(&address).await.unwrap();
                let named = (0..count.parse().unwrap())
                    .map(|number: usize| json!({"name": many(number), "actions": ["add"]}));
                let actors = json!({"system": "shop", "actors": named.collect::<Vec<_>>()});
                let path = ("POST", "/api/v1/system");
                assert_eq!(send(&mut client, path, &[], &actors.to_string()).await.0.status, 200);
            }
            ["pace", a_second] => {
                let pause = Duration::from_secs(1) / a_second.parse::<u32>().unwrap();
                let answered = self.answered.clone();
                self.calls.spawn(async move {
                    let mut ticks = interval(pause);
                    for number in 0.. {
                        ticks.tick().await;
                        assert_eq!(call(&address, &many(number * 7 % 10_000), "add").await, 200);
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            ["paced", least] => {
                let answered = self.answered.load(Ordering::SeqCst);
                assert!(
                    answered >= least.parse::<usize>().unwrap(),
                    "{answered} calls were answered"
                );
            }
            ["schedule"] => {
                let mut client = Client::connect(&address).await.unwrap();
                let nightly = json!({
                    "name": "nightly", "actor": "counter", "action": "add",
                    "cron": "30 2 * * *", "zone": "Europe/Berlin",
                });
                let path = ("POST", "/api/v1/system/shop/schedules");
                let created = send(&mut client, path, &[], &nightly.to_string()).await;
                assert_eq!(created.0.status, 200, "{:?}", created.1);
            }
            ["publish", count] => {
                let mut client = Client::connect(&address).await.unwrap();
                for _ in 0..count.parse().unwrap() {
                    let path = ("POST", "/api/v1/system/shop/channels/orders");
                    let sent = send(&mut client, path, &[], "{}").await;
                    assert_eq!(sent.0.status, 200, "{:?}", sent.1);
                }
            }
            [verb @ ("pause" | "resume"), actor] => {
                let mut client = Client::connect(&address).await.unwrap();
                let path = format!("/api/v1/actors/{verb}?system=shop&name={actor}");
                let done = send(&mut client, ("POST", &path), &[], "").await;
                assert_eq!(done.0.status, 200, "{:?}", done.1);
            }
            ["large", actor, count] => {
                let mut client = Client::connect(&address).await.unwrap();
                for number in 0..count.parse::<usize>().unwrap() {
                    let state = json!({"number": number, "text": "x".repeat(300_000)});
                    let add = json!({"action": "add", "payload": {"answer": {"state": state}}});
                    let added = support::json::call(&mut client, actor, &add).await;
                    assert_eq!(added.0.status, 200, "{:?}", added.1);
                }
            }
            ["quiet"] => self.calls.shutdown().await,
            ["call", actor, action] => {
                self.call(actor, action).await;
            }
            ["calls", count] => {
                for number in 0..count.parse().unwrap() {
                    let address = address.clone();
                    let actor = format!("cart-{number:02}");
                    self.calls.spawn(async move {
                        call(&address, &actor, "wait").await;
                    });
                }
            }
            ["close"] => drop(self.open.send_replace(false)),
            ["open"] => drop(self.open.send_replace(true)),
            ["away"] => {
                self.host.take().unwrap().stop().await;
            }
            _ => panic!("the browser asks for {asked:?}"),
        }
    }
}

fn many(number: usize) -> String {
    format!("many-{number:05}")
}

async fn call(address: &str, actor: &str, action: &str) -> u16 {
    let Ok(mut client) = Client::connect(address).await else { return 0 };
    let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
    let body = json!({"action": action, "register_ref": "cart"});
    let body = if actor == "counter" || actor.starts_with("many") {
        json!({"action": action})
    } else {
        body
    };
    let request = http::Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(Bytes::from(body.to_string())))
        .unwrap();
    if let Ok(Ok(reply)) = timeout(PATIENCE, client.send(request)).await {
        return reply.status;
    }
    sleep(Duration::from_millis(50)).await;
    0
}

/// The browser, and what it says.
struct Browser {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    #[allow(clippy::disallowed_methods, reason = "a test is told where its modules are")]
    fn start(scenario: &str, admin: &str) -> Self {
        let modules = std::env::var("TIDEGATE_TEST_NODE_MODULES");
        let modules = modules.expect("TIDEGATE_TEST_NODE_MODULES: ./test console sets it");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console/console.mjs");
        let mut command = Command::new("node");
        command.arg(script).args([scenario, &format!("http://{admin}"), &modules]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("node is there");
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, lines }
    }

    /// Does what it asks for, until it has seen everything.
    async fn run(mut self, world: &mut World) {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let Some(line) = line.expect("the browser goes on").unwrap() else { break };
            match line.strip_prefix("ask: ") {
                Some(asked) => {
                    world.carry_out(asked).await;
                    self.input.write_all(b"done\n").await.unwrap();
                }
                None => eprintln!("{line}"),
            }
        }
        let status = timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "the browser: {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_shows_and_changes_what_it_says() {
    let mut world = World::start(&[]).await;
    let admin = world.proxy.admin().await;
    Browser::start("views", &admin).run(&mut world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_draws_its_views_while_ten_thousand_actors_change() {
    let mut world = World::start(&[]).await;
    let admin = world.proxy.admin().await;
    Browser::start("frames", &admin).run(&mut world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_asks_for_the_token_once_and_keeps_foreign_pages_out() {
    let mut world = World::start(&[("TIDEGATE_ADMIN_TOKEN", TOKEN)]).await;
    let admin = world.proxy.admin().await;
    Browser::start("token", &admin).run(&mut world).await;
}
