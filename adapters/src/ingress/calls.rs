//! Calls: those that have ended and are kept, and those of an actor while they end. See `docs/traces.md`.
//!
//! Following is a stream of server-sent events in pieces: an answer ends as soon as it has events, or after a while without, and
//! the client asks again, with the `id` of the last event in `last-event-id`, as browsers do by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{StatusCode, request};
use serde::{Deserialize, Serialize};
use tidegate_stages::actor::ActorRef;
use tidegate_stages::ports::Clock;
use tidegate_stages::state::Timestamp;
use tidegate_stages::traces::{CallOrigin, TracedCall, TracedStage};

use super::failure::{error_kind, error_source};
use super::http::{Answer, JSON, Refusal, of_type};
use super::query::Query;
use crate::clock::SystemClock;
use crate::moment;
use crate::traces::Kept;

/// Where a client goes on.
pub(super) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
/// How long an answer waits for its first event.
const WAIT: Duration = Duration::from_secs(10);

/// Calls that have ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) calls: Vec<EndedCall>,
}

/// A call that has ended. Times are in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndedCall {
    pub(crate) trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// What made it: `client`, `effect`, `due`, `broadcast` or `timer`.
    pub(crate) origin: String,
    /// In RFC 3339.
    pub(crate) began: String,
    pub(crate) took_ms: f64,
    pub(crate) r#async: bool,
    /// The actor that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<EndedError>,
    /// The actors that it passed.
    pub(crate) hops: Vec<EndedHop>,
}

/// Why it failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndedError {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) text: String,
}

/// What it did at one actor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndedHop {
    pub(crate) system: String,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) stages: Vec<EndedStage>,
}

/// What it did in one stage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndedStage {
    pub(crate) stage: String,
    pub(crate) starts_ms: f64,
    pub(crate) queued_ms: f64,
    pub(crate) served_ms: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) blocked_on_ms: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "is_zero", default)]
    pub(crate) retries: u32,
    #[serde(skip_serializing_if = "is_false", default)]
    pub(crate) failed: bool,
}

/// Answers the kept calls that the query chooses, newest first.
pub(super) fn list(kept: Option<&Kept>, head: &request::Parts) -> Result<Answer, Refusal> {
    let kept = kept.ok_or_else(not_kept)?;
    let query = Query::read(head.uri.query())?;
    query.knows(&["id", "system", "name", "failed", "limit"])?;
    let (id, limit, failed) = (query.get("id"), query.limit()?, query.flag("failed")?);
    let (system, name) = (query.get("system"), query.get("name"));
    let trace_id = id.filter(|id| id.len() == 32).and_then(|id| u128::from_str_radix(id, 16).ok());
    let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
    let found = kept.find(limit, |call| {
        let passed = |hop: &tidegate_stages::traces::TracedHop| {
            is(system, hop.actor.system()) && is(name, hop.actor.name())
        };
        let is_called =
            |id: &str| trace_id == Some(call.trace_id) || call.request.to_string() == id;
        id.is_none_or(is_called)
            && failed.is_none_or(|failed| failed == call.error.is_some())
            && call.hops.iter().any(passed)
    });
    let calls = found.iter().map(|call| ended(call)).collect();
    let body = serde_json::to_vec(&Ended { calls }).expect("texts and numbers become JSON");
    Ok(of_type(JSON, body.into()))
}

/// Answers events of an actor's calls: first where to go on, then the calls that have ended since.
pub(super) async fn follow(
    kept: Option<&Kept>,
    (system, name): (&str, &str),
    head: &request::Parts,
) -> Result<Answer, Refusal> {
    let kept = kept.ok_or_else(not_kept)?;
    Query::read(head.uri.query())?.knows(&[])?;
    let mut text = String::from("retry: 100\n");
    if let Some(last) = head.headers.get(LAST_EVENT) {
        let number = last.to_str().ok().and_then(|last| last.parse().ok());
        let news = match number {
            Some(number) => kept.hear(number, WAIT).await,
            None => None,
        };
        let news = news.ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, "nobody follows under this id any more: begin anew")
        })?;
        for call in &news.calls {
            event(&mut text, "call", &ended(call));
        }
        if news.dropped > 0 {
            event(&mut text, "dropped", &serde_json::json!({ "calls": news.dropped }));
        }
        text.push_str(": until then\n\n");
    } else {
        let number = kept.listen(ActorRef::new(system, name)).map_err(|_| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many follow actors already")
        })?;
        text.extend(["id: ", &number.to_string(), "\n"]);
        event(&mut text, "following", &serde_json::json!({ "system": system, "actor": name }));
    }
    let mut answer = of_type(EVENTS, text.into());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

fn event(text: &mut String, name: &str, data: &impl Serialize) {
    let data = serde_json::to_string(data).expect("texts and numbers become JSON");
    text.extend(["event: ", name, "\ndata: ", &data, "\n\n"]);
}

fn not_kept() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no calls are kept: TIDEGATE_KEPT_CALLS is 0")
}

fn ended(call: &TracedCall) -> EndedCall {
    let now = SystemClock.now().0;
    let since = u64::try_from(call.began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let hop = |hop: &tidegate_stages::traces::TracedHop| EndedHop {
        system: hop.actor.system().to_owned(),
        actor: hop.actor.name().to_owned(),
        action: hop.action.clone(),
        stages: hop.stages.iter().map(stage).collect(),
    };
    EndedCall {
        trace_id: format!("{:032x}", call.trace_id),
        request_id: call.request.field().map(|_| call.request.to_string()),
        origin: match call.origin {
            CallOrigin::Client => "client",
            CallOrigin::Effect => "effect",
            CallOrigin::Due => "due",
            CallOrigin::Broadcast => "broadcast",
            CallOrigin::Timer => "timer",
        }
        .to_owned(),
        began: moment::show(Timestamp(now.saturating_sub(since))),
        took_ms: ms(call.took),
        r#async: call.is_async,
        from: call.from.clone(),
        error: call.error.as_ref().map(|error| EndedError {
            kind: error_kind(error).to_owned(),
            source: error_source(error).to_owned(),
            text: error.to_string(),
        }),
        hops: call.hops.iter().map(hop).collect(),
    }
}

fn stage(stage: &TracedStage) -> EndedStage {
    EndedStage {
        stage: stage.name.to_owned(),
        starts_ms: ms(stage.starts),
        queued_ms: ms(stage.queued),
        served_ms: ms(stage.served),
        blocked_on_ms: stage
            .blocked_on
            .iter()
            .map(|(on, time)| ((*on).to_owned(), ms(*time)))
            .collect(),
        retries: stage.retries,
        failed: stage.is_failed,
    }
}

/// To the microsecond, as it is measured.
fn ms(time: Duration) -> f64 {
    f64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)) / 1_000.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
