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
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::call::{calls_of, read, request, state_of};
use crate::facts::Facts;
use tidegate::proto::eigr::functions::protocol::{SideEffect, Workflow};

use crate::support::proto::{
    ActorInvocation, ActorInvocationResponse, Context, actor_invocation, actor_invocation_response,
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

/// Actors whose name begins so send an effect with each call.
pub(crate) const SOURCE: &str = "source";
/// The actor that these effects reach.
pub(crate) const TARGET: &str = "target";
const EFFECT_TIME: Duration = Duration::from_millis(3);

/// Runs an action: the state is told of the call, the caller which one it was.
async fn act(invocation: ActorInvocation, facts: &Arc<Facts>) -> ActorInvocationResponse {
    let Some(actor_invocation::Payload::Value(value)) = invocation.payload else {
        panic!("an action without a call");
    };
    let (id, takes) = read(&value.value);
    let context = invocation.current_context.expect("a context");
    let mut calls = calls_of(context.state.as_ref());
    let actor = invocation.actor.expect("an actor");
    let execution = facts.execute(&actor.name, id, &calls);
    sleep(takes).await;
    drop(execution);
    calls.push(id);
    let state = state_of(&calls);
    let effect = actor
        .name
        .starts_with(SOURCE)
        .then(|| SideEffect { request: Some(request(TARGET, id.effect(), EFFECT_TIME)) });
    let workflow = effect.map(|effect| Workflow { effects: vec![effect], ..Workflow::default() });
    ActorInvocationResponse {
        actor_name: actor.name,
        actor_system: actor.system,
        payload: Some(actor_invocation_response::Payload::Value(state.clone())),
        updated_context: Some(Context { state: Some(state), ..Context::default() }),
        workflow,
        ..ActorInvocationResponse::default()
    }
}
