//! What the spans of a call say, and the bound of those that wait.

use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use tidegate_stages::actor::ActorRef;
use tidegate_stages::error::Error;
use tidegate_stages::request_id::RequestId;
use tidegate_stages::traces::{CallOrigin, TracedHop, TracedStage};
use tokio::time::Instant;

use super::span_data::span_data;
use super::*;

fn stage(name: &'static str, span_id: u64) -> TracedStage {
    TracedStage {
        name,
        span_id,
        starts: Duration::from_millis(2),
        queued: Duration::from_millis(3),
        served: Duration::from_millis(4),
        blocked_on: vec![("worker", Duration::from_millis(3))],
        retries: 0,
        is_failed: name == "invoke",
    }
}

pub(super) fn call(error: Option<Error>) -> TracedCall {
    let stages = vec![stage("lookup", 21), stage("invoke", 22)];
    let hop = TracedHop { actor: ActorRef::new("s", "joe"), action: "add".into(), stages };
    TracedCall {
        trace_id: 7,
        span_id: 11,
        parent: Some(5),
        link: Some((8, 9)),
        state: "a=1".into(),
        origin: CallOrigin::Client,
        is_async: false,
        request: RequestId::None,
        is_sampled: error.is_none(),
        began: Instant::now(),
        took: Duration::from_millis(20),
        from: None,
        hops: vec![hop],
        error,
    }
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map(|attribute| attribute.value.to_string())
}

#[tokio::test]
async fn a_root_has_the_names_of_the_call_and_a_stage_its_times() {
    let spans = span_data(&call(None));
    let [root, lookup, invoke] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((&*root.name, &root.span_kind), ("client invoke", &SpanKind::Server));
    assert_eq!((root.parent_span_id, root.parent_span_is_remote), (SpanId::from(5), true));
    assert_eq!(root.links.links[0].span_context.span_id(), SpanId::from(9));
    assert_eq!(root.span_context.trace_state().header(), "a=1");
    assert_eq!(root.status, Status::Unset);
    for (name, value) in [
        ("async", "false"),
        ("from", "external"),
        ("target", "joe"),
        ("system_name", "s"),
        ("actor_name", "joe"),
        ("tidegate.action", "add"),
    ] {
        assert_eq!(attribute(root, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(lookup.parent_span_id, root.span_context.span_id());
    assert_eq!(attribute(lookup, "tidegate.queue_ms").as_deref(), Some("3"));
    assert_eq!(attribute(lookup, "tidegate.service_ms").as_deref(), Some("4"));
    assert_eq!(attribute(lookup, "tidegate.blocked_on.worker_ms").as_deref(), Some("3"));
    let lasts = lookup.end_time.duration_since(lookup.start_time).unwrap();
    assert_eq!(lasts, Duration::from_millis(7));
    assert_eq!(invoke.span_kind, SpanKind::Client);
}

#[tokio::test]
async fn a_failed_call_says_what_failed_and_who() {
    let error = Error::NoAnswer(Duration::from_mins(1));
    let spans = span_data(&call(Some(error.clone())));
    assert_eq!(spans[0].status, Status::error(error.to_string()));
    assert_eq!(attribute(&spans[0], "error.type").as_deref(), Some("deadline_exceeded"));
    assert_eq!(attribute(&spans[0], "tidegate.error_source").as_deref(), Some("host"));
    assert_eq!(attribute(&spans[0], "tidegate.kept").as_deref(), Some("failed"));
    let failed = |span: &SpanData| matches!(span.status, Status::Error { .. });
    assert_eq!(spans[1..].iter().map(failed).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn spans_beyond_the_bound_are_dropped() {
    let (calls, mut taken) = mpsc::channel(MAX_SPANS);
    let buffer = Buffer { calls, waiting: Arc::new(Waiting::new()) };
    for _ in 0..MAX_SPANS {
        buffer.take(call(None));
    }
    let mut kept = 0;
    while taken.try_recv().is_ok() {
        kept += 1;
    }
    assert_eq!(kept, MAX_SPANS / 3, "a call has three spans");
    assert_eq!(buffer.waiting.spans.load(Ordering::Relaxed), kept * 3);
}
