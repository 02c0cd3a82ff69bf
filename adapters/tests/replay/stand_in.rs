//! The host of a replay: sends the recorded response if there is one, else what that SDK's server would
//! send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::play::within;
use crate::recording::{HostCall, RecordedAnswer, Recording, Sdk, SdkCall};
use crate::support::host::{Answer, Call, Framing, Script};
use crate::support::proto::{
    ActorInvocation, ActorInvocationResponse, Context, DEFAULT_ACTIONS, actor_invocation,
    invocation_request,
};

/// How long an answer waits for a request that the action makes before it answers.
const NESTED: Duration = Duration::from_secs(5);
/// A body that comes in one read when it was sent in one write: well under what Node reads at once.
const ONE_READ_BYTES: usize = 60 * 1024;

/// What the host saw in a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// By number of the recorded host call: what came in its place.
    pub(crate) recorded: BTreeMap<u64, ActorInvocation>,
    /// Calls that the recording has no place for.
    pub(crate) extra: Vec<ActorInvocation>,
    /// What is wrong with how a request was put on the wire.
    pub(crate) transport: Vec<String>,
}

/// An action that somebody set off without waiting for it: actor, action, payload bytes.
type Background = (String, String, Bytes);

#[derive(Debug, Default)]
struct State {
    listening: bool,
    seen: Seen,
    /// Set off, and not answered by the host yet.
    background: Vec<Background>,
    last_sign: BTreeMap<String, Instant>,
    sdk_calls_ended: Vec<usize>,
}

/// The host; see the [module](self).
#[derive(Debug)]
pub(crate) struct StandIn {
    run: Arc<Recording>,
    state: watch::Sender<State>,
}

impl StandIn {
    pub(crate) fn new(run: Arc<Recording>) -> Arc<Self> {
        Arc::new(Self { run, state: watch::Sender::new(State::default()) })
    }

    /// The host listens from now on.
    pub(crate) fn hears(&self) {
        self.state.send_modify(|state| state.listening = true);
    }

    /// Waits until the host listens.
    pub(crate) async fn heard(&self) {
        let mut state = self.state.subscribe();
        state.wait_for(|state| state.listening).await.expect("the sender is here");
    }

    /// Waits until the host has answered everything that was set off in the background.
    pub(crate) async fn settled(&self, limit: Duration) {
        let mut state = self.state.subscribe();
        if !within(limit, &mut state, |state| state.background.is_empty()).await {
            // What did not come is a difference by itself; the calls after it need not wait again.
            self.state.send_modify(|state| state.background.clear());
        }
    }

    /// Waits until these recorded host calls have come.
    pub(crate) async fn seen_all(&self, numbers: Vec<u64>, limit: Duration) {
        let mut state = self.state.subscribe();
        let all = |state: &State| numbers.iter().all(|n| state.seen.recorded.contains_key(n));
        within(limit, &mut state, all).await;
    }

    /// When the actor last did something.
    pub(crate) fn last_sign(&self, actor: &str) -> Instant {
        self.state.borrow().last_sign.get(actor).copied().unwrap_or_else(Instant::now)
    }

    /// The actor did something just now.
    pub(crate) fn touch(&self, actor: &str) {
        self.state.send_modify(|state| {
            state.last_sign.insert(actor.to_owned(), Instant::now());
        });
    }

    /// An SDK call has its answer.
    pub(crate) fn sdk_call_ended(&self, index: usize) {
        self.state.send_modify(|state| state.sdk_calls_ended.push(index));
    }

    /// Notes what an asynchronous call sets off.
    pub(crate) fn expect_background(&self, call: &SdkCall) {
        let Some(invocation) = &call.invocation else { return };
        if invocation.r#async && invocation.scheduled_to <= 0 {
            let payload = request_payload(invocation.payload.as_ref());
            let background = (call.actor().to_owned(), invocation.action_name.clone(), payload);
            self.state.send_modify(|state| state.background.push(background));
        }
    }

    /// What was seen, once the proxy is gone.
    pub(crate) fn into_seen(self: Arc<Self>) -> Seen {
        self.state.borrow().seen.clone()
    }

    /// Gives the call its place in the recording: the first of the same actor, action, payload and caller that is free.
    fn place(&self, invocation: &ActorInvocation) -> Option<&HostCall> {
        let actor = invocation.actor.as_ref().map(|id| id.name.as_str());
        let mut place = None;
        self.state.send_modify(|state| {
            place = self.run.host_calls.iter().find(|recorded| {
                !state.seen.recorded.contains_key(&recorded.number)
                    && Some(recorded.id().name.as_str()) == actor
                    && recorded.invocation.action_name == invocation.action_name
                    && recorded.invocation.payload == invocation.payload
                    && recorded.invocation.caller == invocation.caller
            });
            match place {
                Some(place) => {
                    state.seen.recorded.insert(place.number, invocation.clone());
                }
                None => state.seen.extra.push(invocation.clone()),
            }
        });
        place
    }

    /// Waits for the requests that the recorded action made and saw answered before it answered itself.
    async fn nested_calls(&self, recorded: &HostCall) {
        let inside = |call: &SdkCall| {
            // Only spawning is done from inside an action; everything else overlaps by chance.
            call.path.ends_with("/spawn")
                && call.started_ms > recorded.started_ms
                && call.ended_ms < recorded.ended_ms
        };
        let calls = self.run.sdk_calls.iter().enumerate();
        let nested: Vec<usize> =
            calls.filter(|(_, call)| inside(call)).map(|(index, _)| index).collect();
        let mut state = self.state.subscribe();
        let all = |state: &State| nested.iter().all(|index| state.sdk_calls_ended.contains(index));
        within(NESTED, &mut state, all).await;
    }

    /// Notes what an answer sets off, and that the action itself is done.
    fn answered(&self, invocation: &ActorInvocation, response: Option<&ActorInvocationResponse>) {
        let actor = invocation.actor.as_ref().map(|id| id.name.clone()).unwrap_or_default();
        let done =
            (actor.clone(), invocation.action_name.clone(), payload(invocation.payload.as_ref()));
        let workflow = response.and_then(|response| response.workflow.as_ref());
        let effects = workflow.map(|workflow| workflow.effects.as_slice()).unwrap_or_default();
        let effects = effects.iter().filter_map(|effect| effect.request.as_ref());
        let set_off = effects.filter(|effect| {
            effect.scheduled_to <= 0 && !DEFAULT_ACTIONS.contains(&effect.action_name.as_str())
        });
        let set_off = set_off.filter_map(|effect| {
            let target = effect.actor.as_ref()?.id.as_ref()?.name.clone();
            Some((target, effect.action_name.clone(), request_payload(effect.payload.as_ref())))
        });
        self.state.send_modify(|state| {
            state.background.extend(set_off);
            if let Some(known) = state.background.iter().position(|known| *known == done) {
                state.background.swap_remove(known);
            }
            state.last_sign.insert(actor, Instant::now());
        });
    }

    fn check_transport(&self, call: &Call) {
        let mut wrong = vec![];
        if (call.method.as_str(), call.path.as_str()) != ("POST", "/api/v1/actors/actions") {
            wrong.push(format!("{} {}", call.method, call.path));
        }
        if call.header("content-type") != Some("application/octet-stream") {
            wrong.push(format!("content type {:?}", call.header("content-type")));
        }
        if self.run.sdk == Sdk::Node && call.body.len() < ONE_READ_BYTES && call.pieces > 1 {
            wrong.push(format!("{} bytes of body in {} reads", call.body.len(), call.pieces));
        }
        if !wrong.is_empty() {
            self.state.send_modify(|state| state.seen.transport.extend(wrong));
        }
    }
}

impl Script for StandIn {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            self.check_transport(&call);
            let invocation = match ActorInvocation::decode(call.body.clone()) {
                Ok(invocation) => invocation,
                Err(error) => {
                    let wrong = format!("a host call that does not decode: {error}");
                    self.state.send_modify(|state| state.seen.transport.push(wrong));
                    return None;
                }
            };
            if let Some(recorded) = self.place(&invocation) {
                self.nested_calls(recorded).await;
                self.answered(&invocation, recorded.response.as_ref());
                Some(played_back(&recorded.answer))
            } else {
                self.answered(&invocation, None);
                Some(improvise(&self.run, &invocation))
            }
        })
    }
}

/// The recorded answer, in the recorded framing.
fn played_back(recorded: &RecordedAnswer) -> Answer {
    let is = |name: &str, header: &str| name.eq_ignore_ascii_case(header);
    let chunked = recorded.headers.iter().any(|(name, _)| is(name, "transfer-encoding"));
    let follows = |name: &str| is(name, "transfer-encoding") || is(name, "content-length");
    Answer {
        status: recorded.status,
        headers: recorded.headers.iter().filter(|(name, _)| !follows(name)).cloned().collect(),
        body: recorded.body.clone(),
        framing: if chunked { Framing::Chunks(16 * 1024) } else { Framing::Length },
    }
}

/// What the SDK's server answers to a call that was never recorded.
///
/// A registered action is taken for one that changes nothing. The rest is how each server fails: Node's
/// and Rust's quietly succeed, Go's answers 200 without a context, Python's an HTML page under 500.
fn improvise(run: &Recording, invocation: &ActorInvocation) -> Answer {
    let id = invocation.actor.clone().unwrap_or_default();
    let current = invocation.current_context.clone().unwrap_or_default();
    // Go's and Rust's servers know an actor by its own name only.
    let by_name_only = matches!(run.sdk, Sdk::Go | Sdk::Rust);
    let definition =
        run.definition(&id).filter(|_| !by_name_only || run.actors.contains_key(&id.name));
    let knows = definition.is_some_and(|actor| {
        actor.actions.iter().any(|action| action.name == invocation.action_name)
            || run.is_timer(&id, &invocation.action_name)
    });
    let named = |context: Option<Context>| ActorInvocationResponse {
        actor_name: id.name.clone(),
        actor_system: id.system.clone(),
        updated_context: context,
        ..ActorInvocationResponse::default()
    };
    let empty_body =
        |status| Answer { status, headers: vec![], body: Bytes::new(), framing: Framing::Length };
    match (run.sdk, knows) {
        (Sdk::Node, _) => Answer {
            framing: Framing::Chunks(usize::MAX),
            ..Answer::message(&named(Some(current)))
        },
        (Sdk::Go, true) => {
            Answer::message(&named(Some(Context { state: current.state, ..Context::default() })))
        }
        (Sdk::Go, false) => Answer::message(&named(None)),
        (Sdk::Python, false) => Answer {
            status: 500,
            headers: vec![
                ("Content-Type".into(), "text/html; charset=utf-8".into()),
                ("Connection".into(), "close".into()),
            ],
            body: Bytes::from_static(
                b"<!doctype html>\n<title>500 Internal Server Error</title>\n",
            ),
            framing: Framing::Length,
        },
        (Sdk::Rust, _) if definition.is_none() => empty_body(200),
        (Sdk::Python | Sdk::Rust, _) => Answer::message(&named(Some(Context::default()))),
    }
}

fn payload(payload: Option<&actor_invocation::Payload>) -> Bytes {
    match payload {
        Some(actor_invocation::Payload::Value(any)) => any.value.clone(),
        _ => Bytes::new(),
    }
}

fn request_payload(payload: Option<&invocation_request::Payload>) -> Bytes {
    match payload {
        Some(invocation_request::Payload::Value(any)) => any.value.clone(),
        _ => Bytes::new(),
    }
}
