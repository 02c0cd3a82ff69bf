//! Workflow: sources whose every action emits effects, targets that count them, and a proxy that is killed meanwhile.
//!
//! ```text
//! source-0 … source-3 ─▶ left, right (stateful) ─▶ end (stateful)
//!                     └▶ bare (stateless)
//! ```
//! A source counts, and sends its count to three targets, by effects or by a durable topic. A stateful target keeps in its state, for each of its sources, the
//! last count that it got. The next one has to be one more: less is a doubled effect, more a lost or an overtaken one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use rand::RngExt;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::counter::{SYSTEM, call, definition, register, spawn, stateless};
use super::host::{Answer, Call, Host, Script};
use super::proto::{
    Actor, ActorId, ActorInvocation, ActorInvocationResponse, ActorSystem, Any, Context,
    InvocationRequest, Kind, actor_deactivation_strategy, actor_invocation,
    actor_invocation_response, invocation_request, invocation_response,
};
use super::proxy::{BINARY, Proxy};

use tidegate::proto::eigr::functions::protocol::actors::Channel;
use tidegate::proto::eigr::functions::protocol::{Broadcast, SideEffect, Workflow, broadcast};

const TARGETS: [&str; 3] = ["left", "right", "bare"];
/// The topic to which sources publish.
const TOPIC: &str = "counts";
const SOURCES: [&str; 4] = ["source-0", "source-1", "source-2", "source-3"];
/// Callers of each source.
const CALLERS: usize = 2;
/// How long everything may take to be delivered at the end.
const DELIVERY_LIMIT: Duration = Duration::from_mins(2);
/// The key of an effect's number.
const EFFECT_ID: &str = "tidegate-effect-id";
/// How often an actor is asked that is not called now.
const PATIENCE: usize = 300;

/// What the targets of a run have counted.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Effects of committed states, by those at stateful targets.
    pub(crate) effects: u64,
    /// Runs of actions of stateful targets, more than effects where an answer was lost.
    pub(crate) runs: u64,
    /// Effects of sources at the stateless target, and its runs.
    pub(crate) bare: (u64, u64),
}

/// The host.
#[derive(Debug, Default)]
struct Workers {
    /// Whether sources publish to a topic.
    publish: bool,
    runs: AtomicU64,
    /// What the stateless target was sent: counts by source, and by number of the effect how often.
    bare: Mutex<BTreeMap<String, BTreeSet<u64>>>,
    bare_runs: AtomicU64,
}

fn text(value: Option<&Any>) -> String {
    value.map_or_else(String::new, |any| {
        String::from_utf8(any.value.to_vec()).expect("all values are texts")
    })
}

fn any(text: String) -> Any {
    Any { type_url: "type.googleapis.com/tidegate.test.Text".into(), value: text.into() }
}

/// The state of a target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Effects that were none of those to come next.
    wrong: u64,
    all: u64,
    last: BTreeMap<String, u64>,
}

impl Counts {
    fn read(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines() {
            let (name, number) = line.split_once(' ').expect("a name and a number");
            let number = number.parse().expect("a number");
            match name {
                "wrong" => counts.wrong = number,
                "all" => counts.all = number,
                source => drop(counts.last.insert(source.into(), number)),
            }
        }
        counts
    }

    fn write(&self) -> String {
        let mut text = format!("wrong {}\nall {}\n", self.wrong, self.all);
        for (source, last) in &self.last {
            writeln!(text, "{source} {last}").expect("a text takes it");
        }
        text
    }

    fn take(&mut self, source: &str, number: u64) {
        self.all += 1;
        let last = self.last.entry(source.into()).or_default();
        self.wrong += u64::from(number != *last + 1);
        *last = number.max(*last);
    }
}

/// An effect that sends a count.
fn effect(target: &str, source: &str, count: u64) -> SideEffect {
    let payload = any(format!("{source} {count}"));
    let id = ActorId { name: target.into(), system: SYSTEM.into(), parent: String::new() };
    SideEffect {
        request: Some(InvocationRequest {
            system: Some(ActorSystem { name: SYSTEM.into(), registry: None }),
            actor: Some(Actor { id: Some(id), ..Actor::default() }),
            action_name: "add".into(),
            payload: Some(invocation_request::Payload::Value(payload)),
            ..InvocationRequest::default()
        }),
    }
}

impl Workers {
    /// The new state of an actor, and what else it does.
    fn act(&self, invocation: &ActorInvocation) -> (Option<Any>, Workflow) {
        let name = &invocation.actor.as_ref().expect("an actor").name;
        let context = invocation.current_context.as_ref().expect("a context");
        let state = text(context.state.as_ref());
        if SOURCES.contains(&name.as_str()) {
            let count = state.parse().unwrap_or(0) + 1_u64;
            let workflow = if self.publish {
                let payload = broadcast::Payload::Value(any(format!("{name} {count}")));
                let (channel_group, payload) = (TOPIC.into(), Some(payload));
                Workflow {
                    broadcast: Some(Broadcast { channel_group, payload }),
                    ..Workflow::default()
                }
            } else {
                let effects = TARGETS.map(|target| effect(target, name, count)).to_vec();
                Workflow { effects, ..Workflow::default() }
            };
            return (Some(any(count.to_string())), workflow);
        }
        assert!(context.metadata.contains_key(EFFECT_ID), "an effect has a number");
        let Some(actor_invocation::Payload::Value(sent)) = &invocation.payload else {
            panic!("an effect has a payload");
        };
        let sent = text(Some(sent));
        let (source, number) = sent.split_once(' ').expect("a name and a number");
        let number = number.parse().expect("a number");
        if name == "bare" {
            self.bare_runs.fetch_add(1, Ordering::Relaxed);
            self.bare.lock().entry(source.into()).or_default().insert(number);
            return (None, Workflow::default());
        }
        self.runs.fetch_add(1, Ordering::Relaxed);
        let mut counts = Counts::read(&state);
        counts.take(source, number);
        let effects =
            if name == "end" { Vec::new() } else { vec![effect("end", name, counts.all)] };
        (Some(any(counts.write())), Workflow { effects, ..Workflow::default() })
    }
}

impl Script for Workers {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).expect("an invocation");
            let (pause, is_lost) = {
                let mut random = rand::rng();
                (random.random_range(0..3_000), random.random_range(0..100) == 0)
            };
            let (state, workflow) = self.act(&invocation);
            sleep(Duration::from_micros(pause)).await;
            if is_lost {
                // The connection closes: whether the action has run, the proxy does not know.
                return None;
            }
            let id = invocation.actor.expect("an actor");
            let workflow = Some(workflow).filter(|workflow| *workflow != Workflow::default());
            Some(Answer::message(&ActorInvocationResponse {
                actor_name: id.name,
                actor_system: id.system,
                payload: state.clone().map(actor_invocation_response::Payload::Value),
                updated_context: Some(Context { state, ..Context::default() }),
                workflow,
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

/// A stateful definition that leaves memory soon.
fn brief(name: &str, kind: Kind) -> Actor {
    let mut actor = definition(name, kind);
    let settings = actor.settings.as_mut().expect("it has settings");
    let strategy = settings.deactivation_strategy.as_mut().expect("it has a strategy");
    if let Some(actor_deactivation_strategy::Strategy::Timeout(after)) = &mut strategy.strategy {
        after.timeout = 20;
    }
    actor
}

async fn state(client: &mut Client, actor: &str) -> Result<String, String> {
    // An actor that has too many effects to deliver is not called until some are.
    for _ in 0..PATIENCE {
        let (status, answer) =
            client.invoke(&call(actor, "get")).await.map_err(|error| format!("{error:?}"))?;
        match (status, answer.payload) {
            (200, Some(invocation_response::Payload::Value(any))) => return Ok(text(Some(&any))),
            (200, _) => return Ok(String::new()),
            (503, _) => sleep(Duration::from_millis(100)).await,
            _ => return Err(format!("HTTP {status}")),
        }
    }
    Err("HTTP 503 for too long".into())
}

/// A proxy and its host; see the [module](self).
pub(crate) struct Workshop {
    workers: Arc<Workers>,
    host: Host,
    settings: Vec<(String, String)>,
    /// What runs instead of the built binary.
    program: Option<fn() -> Command>,
}

impl Workshop {
    /// Proxies have these settings.
    pub(crate) fn new<S: Into<String>>(settings: impl IntoIterator<Item = (S, S)>) -> Self {
        let workers = Arc::new(Workers::default());
        let host = Host::start(Arc::clone(&workers));
        let settings =
            settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { workers, host, settings, program: None }
    }

    /// Sources publish to a durable topic to which the targets are subscribed.
    pub(crate) fn publishing(self) -> Self {
        let workers = Arc::new(Workers { publish: true, ..Workers::default() });
        let host = Host::start(Arc::clone(&workers));
        let mut settings = self.settings;
        settings.push(("TIDEGATE_DURABLE_TOPICS".into(), TOPIC.into()));
        Self { workers, host, settings, program: self.program }
    }

    /// A definition of a target.
    fn target(&self, mut actor: Actor) -> Actor {
        if self.workers.publish {
            let channel = Channel { topic: TOPIC.into(), action: "add".into() };
            let metadata = actor.metadata.get_or_insert_default();
            metadata.channel_group = vec![channel.encode_to_vec().into()];
        }
        actor
    }

    /// Another program that serves.
    pub(crate) fn run_by(self, program: fn() -> Command) -> Self {
        Self { program: Some(program), ..self }
    }

    async fn start(&self) -> Proxy {
        let port = self.host.port();
        let mut settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        settings.extend([("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &port)]);
        let command = self.program.map_or_else(
            || {
                let mut command = Command::new(BINARY);
                command.arg("serve");
                command
            },
            |program| program(),
        );
        Proxy::spawn(command, &settings).await
    }

    /// Kills the proxy again and again at random moments under load, then lets everything be delivered. Returns what was
    /// counted.
    ///
    /// # Errors
    /// What was counted wrongly.
    pub(crate) async fn killed_again_and_again(&self, rounds: u32) -> Result<Figures, String> {
        for round in 0..rounds {
            let proxy = self.start().await;
            let address = proxy.address().to_owned();
            if round == 0 {
                let mut client = Client::connect(&address).await.expect("the proxy is there");
                let mut all = vec![brief("source", Kind::Unnamed), brief("end", Kind::Named)];
                all.push(self.target(stateless("bare")));
                all.extend(["left", "right"].map(|name| self.target(brief(name, Kind::Named))));
                register(&mut client, all).await;
                spawn(&mut client, "source", &SOURCES).await;
            }
            let mut load = JoinSet::new();
            for source in SOURCES.iter().flat_map(|source| [source; CALLERS]) {
                load.spawn(call_on(address.clone(), source));
            }
            let moment = rand::rng().random_range(100..1_200);
            sleep(Duration::from_millis(moment)).await;
            proxy.kill().await;
            load.shutdown().await;
        }
        let proxy = self.start().await;
        let outcome = self.delivered(proxy.address()).await;
        assert!(proxy.terminate(Duration::from_secs(30)).await.success());
        outcome
    }

    /// Waits until all effects of committed states are counted.
    async fn delivered(&self, address: &str) -> Result<Figures, String> {
        let mut client = Client::connect(address).await.map_err(|error| format!("{error:?}"))?;
        let mut committed = BTreeMap::new();
        for source in SOURCES {
            let count = state(&mut client, source).await?;
            committed.insert(source.to_owned(), count.parse::<u64>().unwrap_or(0));
        }
        let sum: u64 = committed.values().sum();
        let until = Instant::now() + DELIVERY_LIMIT;
        loop {
            let outcome = self.look(&mut client, &committed, sum).await;
            let is_wrong = matches!(&outcome, Err(text) if text.contains("wrong effects"));
            if outcome.is_ok() || is_wrong || Instant::now() > until {
                return outcome;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn look(
        &self,
        client: &mut Client,
        committed: &BTreeMap<String, u64>,
        sum: u64,
    ) -> Result<Figures, String> {
        let mut figures = Figures::default();
        for target in ["left", "right"] {
            let counts = Counts::read(&state(client, target).await?);
            figures.effects += counts.all;
            if counts.wrong > 0 {
                return Err(format!("{target} got {} wrong effects: {counts:?}", counts.wrong));
            }
            if counts.last != *committed || counts.all != sum {
                return Err(format!("{target} has {counts:?}, committed are {committed:?}"));
            }
        }
        let counts = Counts::read(&state(client, "end").await?);
        figures.effects += counts.all;
        if counts.wrong > 0 {
            return Err(format!("end got {} wrong effects: {counts:?}", counts.wrong));
        }
        let expected = ["left", "right"].map(|name| (name.to_owned(), sum));
        if counts.last != BTreeMap::from(expected) {
            return Err(format!("end has {counts:?}, not {sum} of each"));
        }
        for (source, count) in committed {
            let bare = self.workers.bare.lock();
            let got = bare.get(source).map_or(0, |got| got.range(1..=*count).count() as u64);
            figures.bare.0 += count;
            if got != *count {
                return Err(format!("bare got {got} of {count} effects of {source}"));
            }
        }
        figures.runs = self.workers.runs.load(Ordering::Relaxed);
        figures.bare.1 = self.workers.bare_runs.load(Ordering::Relaxed);
        Ok(figures)
    }
}

/// Calls a source until the proxy has gone.
async fn call_on(address: String, source: &'static str) {
    while let Ok(mut client) = Client::connect(&address).await {
        while client.invoke(&call(source, "add")).await.is_ok() {}
    }
}
