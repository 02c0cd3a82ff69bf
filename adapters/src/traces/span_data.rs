//! Span data: the spans of a call, as the exporter takes them.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tidegate_stages::ports::Clock;
use tidegate_stages::traces::{CallOrigin, TracedCall, TracedHop, TracedStage};

use crate::clock::SystemClock;
use crate::ingress::failure::{error_kind, error_source};

/// What the spans of one call have in common.
struct Call {
    trace_id: TraceId,
    root: SpanId,
    state: TraceState,
    began: SystemTime,
    scope: InstrumentationScope,
}

/// The spans of a call: first its root, then those of its stages.
pub(super) fn span_data(call: &TracedCall) -> Vec<SpanData> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_micros(SystemClock.now().0);
    let of = Call {
        trace_id: TraceId::from(call.trace_id),
        root: SpanId::from(call.span_id),
        state: call.state.parse().unwrap_or_default(),
        began: now - call.began.elapsed(),
        scope: InstrumentationScope::builder("tidegate")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    };
    let mut spans = vec![of.root(call)];
    for hop in &call.hops {
        spans.extend(hop.stages.iter().map(|stage| of.stage(hop, stage)));
    }
    spans
}

impl Call {
    fn root(&self, call: &TracedCall) -> SpanData {
        let (name, kind) = match call.origin {
            CallOrigin::Client => ("client invoke", SpanKind::Server),
            CallOrigin::Effect => ("effect invoke", SpanKind::Consumer),
            CallOrigin::Due => ("due invoke", SpanKind::Consumer),
            CallOrigin::Broadcast => ("broadcast invoke", SpanKind::Consumer),
            CallOrigin::Timer => ("timer invoke", SpanKind::Consumer),
        };
        let mut attributes = vec![
            KeyValue::new("async", call.is_async),
            KeyValue::new("from", call.from.clone().unwrap_or_else(|| "external".into())),
        ];
        if let Some(hop) = call.hops.first() {
            attributes.push(KeyValue::new("target", hop.actor.name().to_owned()));
            attributes.extend(names(hop));
        }
        if call.hops.len() > 1 {
            let route: Vec<_> = call.hops.iter().map(|hop| hop.actor.name()).collect();
            attributes.push(KeyValue::new("tidegate.route", route.join(" → ")));
        }
        if !call.is_sampled {
            let why = if call.error.is_some() { "failed" } else { "slow" };
            attributes.push(KeyValue::new("tidegate.kept", why));
        }
        let status = call.error.as_ref().map_or(Status::Unset, |error| {
            attributes.push(KeyValue::new("error.type", error_kind(error)));
            attributes.push(KeyValue::new("tidegate.error_source", error_source(error)));
            Status::error(error.to_string())
        });
        let mut links = SpanLinks::default();
        if let Some((trace_id, span_id)) = call.link {
            let cause = self.context(TraceId::from(trace_id), SpanId::from(span_id));
            links.links.push(Link::with_context(cause));
        }
        let parent = call.parent.map_or(SpanId::INVALID, SpanId::from);
        SpanData {
            parent_span_is_remote: call.parent.is_some(),
            span_kind: kind,
            attributes,
            links,
            status,
            ..self.span(name, (self.root, parent), (Duration::ZERO, call.took))
        }
    }

    fn stage(&self, hop: &TracedHop, stage: &TracedStage) -> SpanData {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let mut attributes = names(hop).to_vec();
        attributes.push(KeyValue::new("tidegate.queue_ms", milliseconds(stage.queued)));
        attributes.push(KeyValue::new("tidegate.service_ms", milliseconds(stage.served)));
        for (what, time) in &stage.blocked_on {
            let name = format!("tidegate.blocked_on.{what}_ms");
            attributes.push(KeyValue::new(name, milliseconds(*time)));
        }
        if stage.retries > 0 {
            attributes.push(KeyValue::new("tidegate.retries", i64::from(stage.retries)));
        }
        let span_kind = if stage.name == "invoke" { SpanKind::Client } else { SpanKind::Internal };
        let status = if stage.is_failed { Status::error("") } else { Status::Unset };
        let (ids, took) = ((SpanId::from(stage.span_id), self.root), stage.queued + stage.served);
        SpanData {
            span_kind,
            attributes,
            status,
            ..self.span(stage.name, ids, (stage.starts, stage.starts + took))
        }
    }

    fn context(&self, trace_id: TraceId, span_id: SpanId) -> SpanContext {
        SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, self.state.clone())
    }

    fn span(
        &self,
        name: &'static str,
        (id, parent): (SpanId, SpanId),
        (from, to): (Duration, Duration),
    ) -> SpanData {
        SpanData {
            span_context: self.context(self.trace_id, id),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: self.began + from,
            end_time: self.began + to,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn names(hop: &TracedHop) -> [KeyValue; 3] {
    [
        KeyValue::new("system_name", hop.actor.system().to_owned()),
        KeyValue::new("actor_name", hop.actor.name().to_owned()),
        KeyValue::new("tidegate.action", hop.action.clone()),
    ]
}
