//! Letters: a source whose effects find no target at first, and dead letters that are looked at, delivered again and dropped.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use prost::Message;
use tidegate::proto::eigr::functions::protocol::{SideEffect, Workflow};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::counter::{ADD, SYSTEM, add, call, definition, get_state, register};
use super::host::{Answer, Call, Host, Script};
use super::proto::{ActorInvocation, ActorInvocationResponse, Kind};
use super::proxy::Proxy;
use super::tool::{Ran, run};

/// How long deliveries and removals may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Every actor counts; the source has `sink` and `other-sink` count too. Targets answer while they are open.
#[derive(Debug)]
struct Counting {
    counter: Arc<super::counter::Counter>,
    open: watch::Receiver<bool>,
}

fn effect(target: &str) -> SideEffect {
    SideEffect { request: Some(call(target, ADD)) }
}

impl Script for Counting {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body.clone()).expect("an invocation");
            let is_source = invocation.actor.expect("an actor").name == "source";
            if !is_source {
                self.open.clone().wait_for(|open| *open).await.expect("the test has the other end");
            }
            let answer = self.counter.clone().answer(call).await?;
            if !is_source {
                return Some(answer);
            }
            let mut answer = ActorInvocationResponse::decode(answer.body).expect("its own answer");
            let effects = ["sink", "other-sink"].map(effect).into();
            answer.workflow = Some(Workflow { effects, ..Workflow::default() });
            Some(Answer::message(&answer))
        })
    }
}

/// A proxy, its host, and what commands ask for.
pub(crate) struct Post {
    host: Host,
    open: watch::Sender<bool>,
    settings: Vec<(String, String)>,
    proxy: Proxy,
}

impl Post {
    /// A proxy with these settings whose source has so many dead letters for each of two targets.
    pub(crate) async fn with(
        settings: impl IntoIterator<Item = (String, String)>,
        letters: u32,
    ) -> Self {
        let (open, is_open) = watch::channel(true);
        let host = Host::start(Arc::new(Counting { counter: Arc::default(), open: is_open }));
        let mut settings: Vec<_> = settings.into_iter().collect();
        let host_port = [("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &host.port())];
        settings.extend(host_port.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let proxy = start(&settings).await;
        let post = Self { host, open, settings, proxy };
        let mut client = post.client().await;
        register(&mut client, vec![definition("source", Kind::Named)]).await;
        for _ in 0..letters {
            add(&mut client, "source").await.expect("it answers");
        }
        post.until(|| async { post.listed("--dead").await == 2 * letters as usize }).await;
        post
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.proxy.address()).await.expect("the proxy is there")
    }

    /// Registers the targets.
    pub(crate) async fn register_targets(&self) {
        let targets = ["sink", "other-sink"].map(|name| definition(name, Kind::Named));
        register(&mut self.client().await, targets.into()).await;
    }

    /// Runs `tidegate effects` with these arguments and settings beside those of the proxy.
    pub(crate) async fn effects_with(&self, args: &[&str], more: &[(&str, &str)]) -> Ran {
        let mut settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        settings.extend(more);
        let proxy = ["--proxy", self.proxy.address()];
        run(&[&["effects"], args, &proxy].concat(), &settings).await
    }

    /// The same, which has to succeed: what it printed.
    pub(crate) async fn effects(&self, args: &[&str]) -> String {
        self.effects_with(args, &[]).await.said()
    }

    /// The same, as JSON.
    pub(crate) async fn json(&self, args: &[&str]) -> serde_json::Value {
        let said = self.effects(&[args, &["--json"]].concat()).await;
        serde_json::from_str(&said).expect("JSON")
    }

    /// How many effects `list` shows.
    pub(crate) async fn listed(&self, which: &str) -> usize {
        let listing = self.json(&["list", which]).await;
        listing["effects"].as_array().expect("a list").len()
    }

    /// Targets answer, or not.
    pub(crate) fn open(&self, is_open: bool) {
        self.open.send_replace(is_open);
    }

    /// Kills the proxy, and starts it again.
    pub(crate) async fn kill(self) -> Self {
        let Self { host, open, settings, proxy } = self;
        proxy.kill().await;
        let proxy = start(&settings).await;
        Self { host, open, settings, proxy }
    }

    pub(crate) async fn end(self) {
        assert!(self.proxy.terminate(Duration::from_secs(30)).await.success());
    }

    pub(crate) async fn until<F: Future<Output = bool>>(&self, mut is_so: impl FnMut() -> F) {
        let limit = Instant::now() + LIMIT;
        while !is_so().await {
            assert!(Instant::now() < limit, "it takes too long");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What both targets have counted to.
    pub(crate) async fn counts(&self) -> (u32, u32) {
        let mut client = self.client().await;
        (get_state(&mut client, "sink").await, get_state(&mut client, "other-sink").await)
    }
}

async fn start(settings: &[(String, String)]) -> Proxy {
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    Proxy::start(&settings).await
}

/// The whole life of dead letters on one store, over a kill.
pub(crate) async fn live(settings: impl IntoIterator<Item = (String, String)>) {
    let post = Post::with(settings, 3).await;
    post.register_targets().await;
    let listing = post.json(&["list", "--dead", "--target", "*/sink"]).await;
    let id = listing["effects"][0]["id"].as_str().expect("a name").to_owned();
    assert!(id.starts_with(&format!("{SYSTEM}/source/")), "{id}");
    let shown = post.json(&["show", &id]).await;
    assert_eq!((&shown["state"], &shown["action"]), (&"dead".into(), &ADD.into()));
    assert!(shown["reason"].as_str().expect("a text").contains("not found"), "{shown}");
    assert_eq!(shown["attempts"], 1);

    // One is tried again while its target does not answer, and the proxy is killed meanwhile.
    post.open(false);
    let tried = post.json(&["retry", &id]).await;
    assert_eq!(tried["done"], 1);
    assert_eq!(post.listed("--pending").await, 1);
    let post = post.kill().await;
    assert_eq!(post.listed("--dead").await, 5);
    assert_eq!(post.effects_with(&["retry", &id, "--yes"], &[]).await.code, Some(70));
    post.open(true);
    post.until(|| async { post.listed("--pending").await == 0 }).await;
    assert_eq!(post.counts().await, (1, 0));

    // The others of the same target follow, those of the other target are dropped.
    let sink = ["--target", "*/sink"];
    let counted = post.effects(&[&["retry", "--dry-run"], &sink[..]].concat()).await;
    assert_eq!(counted, "2 dead letters match\n");
    let asked = post.effects_with(&[&["retry"], &sink[..]].concat(), &[]).await.refused(70);
    assert!(asked.contains("whether to retry 2 dead letters, --yes does it"), "{asked}");
    let told = post.effects(&[&["retry", "--yes"], &sink[..]].concat()).await;
    assert_eq!(told, "2 dead letters to be delivered again\n");
    post.until(|| async { post.counts().await == (3, 0) }).await;
    let young = post.effects(&["drop", "--yes", "--older-than", "1h"]).await;
    assert_eq!(young, "0 dead letters match\n");
    let unchosen = post.effects_with(&["drop", "--yes"], &[]).await.refused(70);
    assert!(unchosen.contains("--all"), "{unchosen}");
    assert_eq!(post.effects(&["drop", "--yes", "--all"]).await, "3 dead letters dropped\n");
    let post = post.kill().await;
    assert_eq!((post.listed("--dead").await, post.counts().await), (0, (3, 0)));
    post.end().await;
}
