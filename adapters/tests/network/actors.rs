//! Actors: a host whose actors record every call. Its process can end and restart while its machine runs
//! on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prost::Message;
use tidegate::proto::eigr::functions::protocol::{Broadcast, SideEffect, Workflow, broadcast};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::call::{CallId, Kind, calls_of, payload, read, request, state_of};
use crate::caller::since_epoch;
use crate::facts::Facts;
use crate::support::proto::{
    ActorInvocation, ActorInvocationResponse, Context, InvocationRequest, actor_invocation,
    actor_invocation_response,
};

/// Whether the process runs.
pub(crate) type Switch = watch::Sender<bool>;

/// The machine's software: serves while the process runs. While it does not, connections are refused; when it ends, those that
/// are open end with it, and so do the actions that they wait for.
pub(crate) async fn run(facts: Arc<Facts>, mut is_up: watch::Receiver<bool>) -> turmoil::Result {
    loop {
        is_up.wait_for(|is_up| *is_up).await?;
        let listener = TcpListener::bind("0.0.0.0:8090").await?;
        let mut connections = JoinSet::new();
        let serving = async {
            loop {
                let (stream, _) = listener.accept().await?;
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(stream, facts.clone()));
            }
        };
        let ended: std::io::Result<()> = tokio::select! {
            ended = serving => ended,
            down = is_up.wait_for(|is_up| !is_up) => down.map(drop).map_err(std::io::Error::other),
        };
        ended?;
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, facts: Arc<Facts>) {
    let service = service_fn(move |request| answer(request, facts.clone()));
    // A connection that breaks is the proxy's to report.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    request: Request<Incoming>,
    facts: Arc<Facts>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let Ok(body) = request.into_body().collect().await else {
        // The proxy broke off inside its request: nobody waits for this answer.
        return Ok(Response::default());
    };
    let invocation = ActorInvocation::decode(body.to_bytes()).expect("an invocation");
    Ok(Response::new(Full::new(act(invocation, &facts).await.encode_to_vec().into())))
}

/// Actors whose name begins so ask for something with each call.
pub(crate) const SOURCE: &str = "source";
/// The actor that their effects reach.
pub(crate) const TARGET: &str = "target";
/// The actor that is called for later times.
pub(crate) const LATER: &str = "later";
/// The topic that they broadcast to, and its subscribers.
pub(crate) const TOPIC: &str = "news";
pub(crate) const SUBSCRIBERS: [&str; 2] = ["subscriber", "subscriber-brief"];
/// The actor with a timer, its action, and its period.
pub(crate) const TICKING: &str = "ticking-brief";
pub(crate) const TICK: &str = "tick";
pub(crate) const PERIOD: Duration = Duration::from_millis(250);
/// How long an action takes that no client calls.
pub(crate) const SHORT: Duration = Duration::from_millis(3);

/// Whether a call of a source asks for an effect at a later time.
pub(crate) fn asks_for_later(id: CallId) -> bool {
    id.number().is_multiple_of(4)
}

/// Whether a call of a source broadcasts.
pub(crate) fn broadcasts(id: CallId) -> bool {
    id.number() % 2 == 1
}

/// Runs an action: the state is told of the call, the caller which one it was.
async fn act(invocation: ActorInvocation, facts: &Arc<Facts>) -> ActorInvocationResponse {
    let actor = invocation.actor.expect("an actor");
    let context = invocation.current_context.expect("a context");
    let (id, takes) = match invocation.payload {
        Some(actor_invocation::Payload::Value(value)) => read(&value.value),
        _ if invocation.action_name == TICK => (facts.tick(), SHORT),
        _ => panic!("an action without a call"),
    };
    let id = match id.kind() {
        Kind::Message => {
            let place = SUBSCRIBERS.iter().position(|name| *name == actor.name);
            id.at(place.expect("it is subscribed"))
        }
        Kind::Run => run_of(id, &context, facts),
        _ => id,
    };
    let mut calls = calls_of(context.state.as_ref());
    let execution = facts.execute(&actor.name, id, &calls);
    sleep(takes).await;
    drop(execution);
    calls.push(id);
    let state = state_of(&calls);
    let is_source = actor.name.starts_with(SOURCE) && id.kind() == Kind::Call;
    ActorInvocationResponse {
        actor_name: actor.name,
        actor_system: actor.system,
        payload: Some(actor_invocation_response::Payload::Value(state.clone())),
        updated_context: Some(Context { state: Some(state), ..Context::default() }),
        workflow: is_source.then(|| asks(id, facts)),
        ..ActorInvocationResponse::default()
    }
}

/// Which run of a schedule a call is, as its metadata tell.
fn run_of(id: CallId, context: &Context, facts: &Arc<Facts>) -> CallId {
    let said = |key: &str| &context.metadata[key];
    let number = said("tidegate-effect-id").rsplit('.').next().map(str::parse);
    let id = CallId::of(Kind::Run, id.which(), number.expect("a part").expect("a number"));
    let due = since_epoch(said("tidegate-schedule-due").parse().expect("milliseconds"));
    facts.due(id, due);
    id
}

/// What a call of a source asks for.
fn asks(id: CallId, facts: &Arc<Facts>) -> Workflow {
    let mut calls = vec![request(TARGET, id.causes(Kind::Effect), SHORT)];
    if asks_for_later(id) {
        let later = id.causes(Kind::Delayed);
        let now = turmoil::since_epoch().expect("inside the simulation").as_millis();
        let scheduled_to = i64::try_from(now).expect("fits") + 400 + i64::from(id.number() % 500);
        facts.due(later, since_epoch(scheduled_to));
        calls.push(InvocationRequest { scheduled_to, ..request(LATER, later, SHORT) });
    }
    let effects = calls.into_iter().map(|call| SideEffect { request: Some(call) }).collect();
    let message = || broadcast::Payload::Value(payload(id.causes(Kind::Message), SHORT));
    let broadcast =
        broadcasts(id).then(|| Broadcast { channel_group: TOPIC.into(), payload: Some(message()) });
    Workflow { effects, broadcast, ..Workflow::default() }
}
