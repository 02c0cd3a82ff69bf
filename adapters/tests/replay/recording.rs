//! A recorded run: the decoded messages between an SDK and the original proxy.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use serde_json::Value;

use crate::schedule::{postpone_effects, postpone_request};
use crate::support::proto::{
    Actor, ActorId, ActorInvocation, ActorInvocationResponse, Any, InvocationRequest,
    RegistrationRequest, invocation_request,
};

/// Which SDK a run is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sdk {
    Node,
    Go,
    Python,
    Rust,
}

impl Sdk {
    fn file(self) -> &'static str {
        match self {
            Sdk::Node => "node.jsonl",
            Sdk::Go => "go.jsonl",
            Sdk::Python => "python.jsonl",
            Sdk::Rust => "rust.jsonl",
        }
    }
}

/// An HTTP answer as recorded.
#[derive(Debug, Clone)]
pub(crate) struct RecordedAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// Something the SDK asked of the proxy.
#[derive(Debug, Clone)]
pub(crate) struct SdkCall {
    pub(crate) number: u64,
    /// Milliseconds since the start of the recording.
    pub(crate) started_ms: f64,
    pub(crate) ended_ms: f64,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// The body, when it is a call of an actor.
    pub(crate) invocation: Option<InvocationRequest>,
    /// What the original answered; `None`: it never did.
    pub(crate) answer: Option<RecordedAnswer>,
}

impl SdkCall {
    /// The actor that is called; empty for other requests.
    pub(crate) fn actor(&self) -> &str {
        let id = self.invocation.as_ref().and_then(|call| call.actor.as_ref()?.id.as_ref());
        id.map_or("", |id| id.name.as_str())
    }

    /// The action that is called; the path for other requests.
    pub(crate) fn action(&self) -> &str {
        self.invocation.as_ref().map_or(&self.path, |call| &call.action_name)
    }
}

/// Something the original proxy asked of the host.
#[derive(Debug, Clone)]
pub(crate) struct HostCall {
    pub(crate) number: u64,
    pub(crate) started_ms: f64,
    pub(crate) ended_ms: f64,
    pub(crate) invocation: ActorInvocation,
    pub(crate) answer: RecordedAnswer,
    /// The answer decoded, when it counts as one: a body with `updated_context`.
    pub(crate) response: Option<ActorInvocationResponse>,
}

impl HostCall {
    pub(crate) fn id(&self) -> &ActorId {
        self.invocation.actor.as_ref().expect("a recorded host call names its actor")
    }
}

/// One run, both directions in order of their start.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) sdk: Sdk,
    pub(crate) sdk_calls: Vec<SdkCall>,
    pub(crate) host_calls: Vec<HostCall>,
    /// What was registered, by name.
    pub(crate) actors: BTreeMap<String, Actor>,
}

impl Recording {
    /// Reads the run of an SDK from the golden files.
    pub(crate) fn read(sdk: Sdk) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sdk").join(sdk.file());
        let text = std::fs::read_to_string(&file).expect("the recording is there");
        let mut run = Self { sdk, sdk_calls: vec![], host_calls: vec![], actors: BTreeMap::new() };
        for line in text.lines() {
            let exchange: Value = serde_json::from_str(line).expect("a line of JSON");
            match text_of(&exchange, "side") {
                "sdk-to-proxy" => run.sdk_calls.push(sdk_call(&exchange)),
                "proxy-to-host" => run.host_calls.push(host_call(&exchange)),
                side => panic!("a recording has no side {side}"),
            }
        }
        for call in &run.sdk_calls {
            if call.path == "/api/v1/system" {
                let registered = RegistrationRequest::decode(call.body.clone()).expect("decodes");
                let system = registered.actor_system.expect("a registration names its system");
                run.actors.extend(system.registry.expect("and its actors").actors);
            }
        }
        run.add_unanswered();
        run
    }

    /// The definition behind an actor: its own, or its parent's.
    pub(crate) fn definition(&self, id: &ActorId) -> Option<&Actor> {
        self.actors.get(&id.name).or_else(|| self.actors.get(&id.parent))
    }

    /// Whether the action is one of the actor's timers.
    pub(crate) fn is_timer(&self, id: &ActorId, action: &str) -> bool {
        self.definition(id).is_some_and(|actor| {
            actor
                .timer_actions
                .iter()
                .any(|timer| timer.action.as_ref().is_some_and(|timed| timed.name == action))
        })
    }

    /// Puts back the requests that the original never answered, and that the recorder therefore lost:
    /// an external host call that no SDK call of the same actor and action precedes.
    fn add_unanswered(&mut self) {
        let mut lost = vec![];
        for host_call in &self.host_calls {
            let (invocation, id) = (&host_call.invocation, host_call.id());
            let explained = self.sdk_calls.iter().any(|call| {
                call.actor() == id.name
                    && call.action() == invocation.action_name
                    && call.started_ms <= host_call.started_ms
            });
            let caused_inside = invocation.caller.is_some()
                || self.host_calls.iter().any(|source| causes(source, &invocation.action_name, id));
            if !explained && !caused_inside {
                lost.push(unanswered(host_call));
            }
        }
        self.sdk_calls.extend(lost);
        self.sdk_calls.sort_by(|a, b| a.started_ms.total_cmp(&b.started_ms));
    }
}

/// Whether this host call's answer asks for a side effect on that actor.
fn causes(source: &HostCall, action: &str, id: &ActorId) -> bool {
    let workflow = source.response.as_ref().and_then(|response| response.workflow.as_ref());
    workflow.is_some_and(|workflow| {
        workflow.effects.iter().filter_map(|effect| effect.request.as_ref()).any(|request| {
            let target = request.actor.as_ref().and_then(|actor| actor.id.as_ref());
            request.action_name == action && target.is_some_and(|target| target.name == id.name)
        })
    })
}

/// The request behind a host call whose caller never got an answer.
fn unanswered(host_call: &HostCall) -> SdkCall {
    use crate::support::proto::{ActorSystem, actor_invocation};

    let id = host_call.id();
    let payload = match host_call.invocation.payload.clone() {
        Some(actor_invocation::Payload::Value(any)) => {
            Some(invocation_request::Payload::Value(any))
        }
        Some(actor_invocation::Payload::Noop(noop)) => {
            Some(invocation_request::Payload::Noop(noop))
        }
        None => None,
    };
    let named = ActorId { parent: String::new(), ..id.clone() };
    let invocation = InvocationRequest {
        system: Some(ActorSystem { name: id.system.clone(), registry: None }),
        actor: Some(Actor { id: Some(named), ..Actor::default() }),
        action_name: host_call.invocation.action_name.clone(),
        payload,
        ..InvocationRequest::default()
    };
    SdkCall {
        number: host_call.number,
        started_ms: host_call.started_ms,
        // It held nothing up: the SDK had given up on it when it went on.
        ended_ms: host_call.ended_ms,
        path: format!("/api/v1/system/{}/actors/{}/invoke", id.system, id.name),
        headers: vec![("Content-Type".into(), "application/octet-stream".into())],
        body: invocation.encode_to_vec().into(),
        invocation: Some(invocation),
        answer: None,
    }
}

fn sdk_call(exchange: &Value) -> SdkCall {
    let path = text_of(exchange, "path").to_owned();
    let mut body = body_of(exchange);
    let mut invocation = None;
    if path.ends_with("/invoke") {
        let recorded =
            InvocationRequest::decode(body.clone()).expect("a recorded invocation decodes");
        let (postponed, bytes) = postpone_request(recorded, body);
        (invocation, body) = (Some(postponed), bytes);
    }
    SdkCall {
        number: exchange["n"].as_u64().expect("a number"),
        started_ms: exchange["started_ms"].as_f64().expect("a time"),
        ended_ms: exchange["ended_ms"].as_f64().expect("a time"),
        headers: headers_of(exchange),
        answer: Some(answer_of(exchange)),
        path,
        body,
        invocation,
    }
}

fn host_call(exchange: &Value) -> HostCall {
    let mut answer = answer_of(exchange);
    let response = ActorInvocationResponse::decode(answer.body.clone()).ok();
    let response = response.map(|response| {
        let (postponed, body) = postpone_effects(response, answer.body.clone());
        answer.body = body;
        postponed
    });
    HostCall {
        number: exchange["n"].as_u64().expect("a number"),
        started_ms: exchange["started_ms"].as_f64().expect("a time"),
        ended_ms: exchange["ended_ms"].as_f64().expect("a time"),
        invocation: ActorInvocation::decode(body_of(exchange)).expect("a host call decodes"),
        response: response.filter(|response| response.updated_context.is_some()),
        answer,
    }
}

fn answer_of(exchange: &Value) -> RecordedAnswer {
    let response = &exchange["response"];
    let status = response["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    RecordedAnswer {
        status: status.expect("a status"),
        headers: headers_of(response),
        body: body_of(response),
    }
}

fn headers_of(message: &Value) -> Vec<(String, String)> {
    let headers = message["headers"].as_array().expect("headers");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    headers.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn text_of<'a>(exchange: &'a Value, key: &str) -> &'a str {
    exchange[key].as_str().expect("text")
}

/// The body of a request or an answer, whole even where the recording cut it.
fn body_of(message: &Value) -> Bytes {
    let recorded = text_of(message, "body_hex");
    match cut(recorded) {
        None => hex(recorded).into(),
        Some((start, total)) => rebuild(start, total / 2, &message["decoded"]).into(),
    }
}

/// Splits a cut text, `start... (N characters in all)`, into its start and N.
fn cut(text: &str) -> Option<(&str, usize)> {
    let (start, rest) = text.split_once("... (")?;
    Some((start, rest.split_once(' ')?.0.parse().expect("a length")))
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(|pair| byte(pair).expect("hex digits")).collect()
}

/// Rebuilds a cut message: its payload is periodic text of a known length, and nothing but an empty workflow follows it.
fn rebuild(start: &str, total: usize, decoded: &Value) -> Vec<u8> {
    /// The recorded long payloads repeat themselves after this many bytes.
    const PERIOD: usize = 16;
    /// The tag of the payload, the same in every message that has one.
    const PAYLOAD: u8 = 0x22;

    let payload = &decoded["value"];
    let (value_start, value_total) = cut(text_of(payload, "value")).expect("the payload is cut");
    let mut value = hex(value_start.strip_prefix("hex:").expect("bytes"));
    let value_bytes = (value_total - "hex:".len()) / 2;
    while value.len() < value_bytes {
        value.push(value[value.len() - PERIOD]);
    }
    let type_url = text_of(payload, "type_url").to_owned();
    if type_url.ends_with("JSONType") {
        value.truncate(value_bytes - 2);
        value.extend_from_slice(b"\"}");
    }
    let any = Any { type_url, value: value.into() }.encode_length_delimited_to_vec();

    let mut whole = hex(start);
    let known = any.get(..5).expect("a long payload");
    let found = whole.windows(6).position(|at| at[0] == PAYLOAD && &at[1..] == known);
    whole.truncate(found.expect("the payload begins inside the visible part") + 1);
    whole.extend(any);
    if whole.len() < total {
        assert!(decoded["workflow"].as_object().is_some_and(serde_json::Map::is_empty));
        whole.extend([0x2a, 0]);
    }
    assert_eq!(whole.len(), total, "a cut body is rebuilt to its recorded length");
    whole
}
