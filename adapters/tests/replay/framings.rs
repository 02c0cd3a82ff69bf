//! Responses in every framing that a host's server may choose, and servers that fail in various ways.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;

use crate::support::client::Client;
use crate::support::counter::{call, definition, register};
use crate::support::host::{Answer, Call, Framing, Host, Script};
use crate::support::proto::{
    Action, ActorInvocation, ActorInvocationResponse, Any, Context, Kind, Status,
    actor_invocation_response, invocation_response,
};
use crate::support::proxy::Proxy;

/// Answers as the action's name says.
#[derive(Debug)]
struct Framer;

/// A value that no single chunk holds.
fn value() -> Bytes {
    Bytes::from(vec![b'x'; 5_000])
}

fn framed(action: &str) -> Option<Answer> {
    let some = Some(actor_invocation_response::Payload::Value(Any {
        type_url: "type.googleapis.com/tidegate.test.Text".into(),
        value: value(),
    }));
    let good = Answer::message(&ActorInvocationResponse {
        payload: some,
        updated_context: Some(Context::default()),
        ..ActorInvocationResponse::default()
    });
    let closing = || vec![("Connection".into(), "close".into())];
    let empty = Answer { body: Bytes::new(), ..good.clone() };
    Some(match action {
        "whole" => good,
        "one_chunk" => Answer { framing: Framing::Chunks(usize::MAX), ..good },
        "many_chunks" => Answer { framing: Framing::Chunks(7), ..good },
        "until_close" => Answer { framing: Framing::Close, ..good },
        "closing" => Answer { headers: closing(), ..good },
        "other_status" => Answer { status: 500, ..good },
        "no_content_type" => Answer { headers: vec![], ..good },
        "empty_400_in_chunks" => Answer { status: 400, framing: Framing::Chunks(1), ..empty },
        "empty_200" => empty,
        "html_500" => Answer {
            status: 500,
            headers: closing(),
            body: Bytes::from_static(
                b"<!doctype html>\n<title>500 Internal Server Error</title>\n",
            ),
            ..good
        },
        "no_context" => Answer::message(&ActorInvocationResponse {
            actor_name: "framed".into(),
            ..ActorInvocationResponse::default()
        }),
        "cut_off" => return None,
        action => panic!("no action {action}"),
    })
}

impl Script for Framer {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).expect("an invocation");
            framed(&invocation.action_name)
        })
    }
}

const GOOD: [&str; 7] = [
    "whole",
    "one_chunk",
    "many_chunks",
    "until_close",
    "closing",
    "other_status",
    "no_content_type",
];
const BAD: [&str; 5] = ["empty_400_in_chunks", "empty_200", "html_500", "no_context", "cut_off"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_in_any_framing_and_a_failure_of_the_host_is_told() {
    let host = Host::start(Arc::new(Framer));
    let port = host.port();
    let settings = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", port.as_str()),
    ];
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    let action = |name: &&str| Action { name: (*name).into() };
    let mut framed = definition("framed", Kind::Named);
    framed.actions = GOOD.iter().chain(&BAD).map(action).collect();
    register(&mut client, vec![framed]).await;

    // Each failure is followed by a success: it leaves neither the actor nor the connections behind broken.
    for (good, bad) in GOOD.iter().zip(BAD.iter().cycle()) {
        let (http, response) = client.invoke(&call("framed", good)).await.expect("an answer");
        assert_eq!(http, 200, "{good}: {:?}", response.status);
        let Some(invocation_response::Payload::Value(answered)) = response.payload else {
            panic!("{good}: no value");
        };
        assert_eq!(answered.value, value(), "{good}");

        let (http, response) = client.invoke(&call("framed", bad)).await.expect("an answer");
        let status = response.status.expect("a failure has a status");
        assert_eq!((http, status.status()), (502, Status::Error), "{bad}: {}", status.message);
        assert!(!status.message.is_empty(), "{bad}");
    }
}
