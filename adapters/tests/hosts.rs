//! Hosts respond twice, or for another actor: no caller gets another's response or state.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use prost::Message;
use support::client::Client;
use support::counter::{ADD, SYSTEM, call, definition, register, spawn};
use support::host::{Answer, Call, Host, Script, read_call};
use support::proto::{
    ActorId, ActorInvocation, ActorInvocationResponse, Any, Context, InvocationResponse, Kind,
    Status, actor_invocation_response, invocation_response,
};
use support::proxy::Proxy;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

const ACTORS: usize = 8;
/// In all, over all actors.
const CALLS: usize = 400;

async fn start(port: u16) -> Proxy {
    let port = port.to_string();
    let settings = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &port),
    ];
    Proxy::start(&settings).await
}

/// An answer whose value and state is the actor's name.
fn response(id: &ActorId) -> ActorInvocationResponse {
    let type_url = "type.googleapis.com/tidegate.test.Name".to_owned();
    let name = Any { type_url, value: Bytes::copy_from_slice(id.name.as_bytes()) };
    ActorInvocationResponse {
        actor_name: id.name.clone(),
        actor_system: id.system.clone(),
        payload: Some(actor_invocation_response::Payload::Value(name.clone())),
        updated_context: Some(Context { state: Some(name), ..Context::default() }),
        ..ActorInvocationResponse::default()
    }
}

/// When the second of two answers is written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Second {
    /// In one write with the first.
    AtOnce,
    /// In a write of its own, this much later.
    After(Duration),
}

/// A host that gives every answer twice.
#[derive(Debug, Clone, Copy)]
struct Twice {
    in_chunks: bool,
    second: Second,
    /// Whether answers say whose they are.
    named: bool,
}

impl Twice {
    fn bytes(self, call: Call) -> Vec<u8> {
        let invocation = ActorInvocation::decode(call.body).unwrap();
        let mut response = response(&invocation.actor.unwrap());
        if !self.named {
            (response.actor_name, response.actor_system) = Default::default();
        }
        let body = response.encode_to_vec();
        let length = body.len();
        let (framing, end) = if self.in_chunks {
            (format!("transfer-encoding: chunked\r\n\r\n{length:x}"), &b"\r\n0\r\n\r\n"[..])
        } else {
            (format!("content-length: {length}\r\n"), &b""[..])
        };
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        [head.as_bytes(), &body, end].concat()
    }

    /// Serves a connection until it is closed.
    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = BytesMut::new();
        while let Some(call) = read_call(&mut stream, &mut buffer).await? {
            let answer = self.bytes(call);
            match self.second {
                Second::AtOnce => stream.write_all(&answer.repeat(2)).await?,
                Second::After(pause) => {
                    stream.write_all(&answer).await?;
                    sleep(pause).await;
                    stream.write_all(&answer).await?;
                }
            }
        }
        Ok(())
    }

    async fn accept(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            while connections.try_join_next().is_some() {}
            // The proxy may close a connection while the second answer is on its way.
            connections.spawn(async move { drop(self.serve(stream).await) });
        }
    }
}

fn value(response: &InvocationResponse) -> Option<String> {
    match response.payload.as_ref()? {
        invocation_response::Payload::Value(any) => {
            Some(String::from_utf8(any.value.to_vec()).unwrap())
        }
        invocation_response::Payload::Noop(_) => None,
    }
}

/// A caller's calls of its actor; how many were answered.
async fn calls(address: String, actor: String) -> usize {
    let mut client = Client::connect(&address).await.unwrap();
    let mut taken = 0;
    for _ in 0..CALLS / ACTORS {
        let (http, response) = client.invoke(&call(&actor, ADD)).await.unwrap();
        if http == 200 {
            assert_eq!(value(&response), Some(actor.clone()), "an answer of its own");
            taken += 1;
            continue;
        }
        let status = response.status.unwrap();
        assert_eq!((http, status.status()), (502, Status::Error), "{}", status.message);
        assert!(status.message.contains("may have run"), "{}", status.message);
    }
    let (http, response) = client.invoke(&call(&actor, "get")).await.unwrap();
    assert_eq!(http, 200, "{:?}", response.status);
    let expected = (taken > 0).then(|| actor.clone());
    assert_eq!(value(&response).filter(|state| !state.is_empty()), expected, "a state of its own");
    taken
}

/// How many of the calls were answered, all of them by their own actor.
async fn answered(host: Twice) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = start(listener.local_addr().unwrap().port()).await;
    let mut serving = JoinSet::new();
    serving.spawn(host.accept(listener));
    let names: Vec<_> = (0..ACTORS).map(|number| format!("a{number}")).collect();
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, names.iter().map(|name| definition(name, Kind::Named)).collect()).await;
    let callers: JoinSet<_> =
        names.into_iter().map(|name| calls(proxy.address().to_owned(), name)).collect();
    callers.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_with_a_second_one_is_never_taken() {
    for in_chunks in [false, true] {
        // Names do not matter here: the bytes alone tell.
        let host = Twice { in_chunks, second: Second::AtOnce, named: false };
        assert_eq!(answered(host).await, 0, "{host:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_after_the_one_that_was_asked_is_nobody_elses() {
    for in_chunks in [false, true] {
        for pause in [Duration::ZERO, Duration::from_millis(1)] {
            let host = Twice { in_chunks, second: Second::After(pause), named: true };
            let taken = answered(host).await;
            assert!(taken > 0, "{host:?}: a first answer alone is taken");
        }
    }
}

/// Answers as the action says.
#[derive(Debug)]
struct Misnaming;

impl Script for Misnaming {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let mut response = response(&invocation.actor.unwrap());
            match invocation.action_name.as_str() {
                "another_actor" => response.actor_name = "somebody".into(),
                "another_system" => response.actor_system = "elsewhere".into(),
                "no_names" => {
                    (response.actor_name, response.actor_system) = Default::default();
                }
                _ => {}
            }
            Some(Answer::message(&response))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_for_another_actor_or_system_is_refused_and_its_state_not_kept() {
    let host = Host::start(Arc::new(Misnaming));
    let proxy = start(host.port().parse().unwrap()).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let actions = ["another_actor", "another_system", "no_names", "own"];
    let with_actions = |name, kind| {
        let mut actor = definition(name, kind);
        actor.actions = actions.map(|name| support::proto::Action { name: name.into() }).to_vec();
        actor
    };
    let template = with_actions("template", Kind::Unnamed);
    register(&mut client, vec![with_actions("named", Kind::Named), template]).await;
    spawn(&mut client, "template", &["instance"]).await;
    for actor in ["named", "instance"] {
        for action in ["another_actor", "another_system"] {
            let (http, response) = client.invoke(&call(actor, action)).await.unwrap();
            let status = response.status.unwrap();
            assert_eq!((http, status.status()), (502, Status::Error), "{}", status.message);
            for part in ["another actor", "may have run"] {
                assert!(status.message.contains(part), "{}", status.message);
            }
            let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
            let state = client.get(&path).await.unwrap();
            let text = String::from_utf8_lossy(&state.body);
            assert!(!text.contains("tidegate.test.Name"), "{} {text}", state.status);
        }
        for action in ["no_names", "own"] {
            let (http, response) = client.invoke(&call(actor, action)).await.unwrap();
            assert_eq!(http, 200, "{:?}", response.status);
            assert_eq!(value(&response).as_deref(), Some(actor));
        }
    }
}
