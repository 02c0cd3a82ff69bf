//! Traces: takes calls that have ended, and exports their spans over OTLP.
//!
//! A call hands itself over and goes on: it never waits. What the receiver does not take in time is dropped and counted.

mod export;
mod kept;
mod otlp;
mod span_data;

pub use kept::Kept;
pub use otlp::{Otlp, OtlpError, Protocol};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::metrics::{Counter, counter};
use tidegate_stages::actor::ActorRef;
use tidegate_stages::traces::{TraceRules, TraceSink, TracedCall, Tracer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::{TRACE_SPANS_DROPPED_TOTAL, TRACE_SPANS_EXPORTED_TOTAL};
use crate::tls::Certificates;

use export::Export;

/// Most spans that wait for the receiver or are on their way to it.
const MAX_SPANS: usize = 10_000;

/// Where spans wait.
#[derive(Debug)]
struct Buffer {
    calls: mpsc::Sender<TracedCall>,
    waiting: Arc<Waiting>,
}

/// Spans that are not exported yet.
#[derive(Debug)]
struct Waiting {
    spans: AtomicUsize,
    exported: Counter,
    dropped: Counter,
}

impl Waiting {
    fn new() -> Self {
        let (exported, dropped) =
            (counter!(TRACE_SPANS_EXPORTED_TOTAL), counter!(TRACE_SPANS_DROPPED_TOTAL));
        Self { spans: AtomicUsize::new(0), exported, dropped }
    }

    /// Takes a call's spans in, unless there are too many.
    fn enter(&self, spans: usize) -> bool {
        let more = |waiting: usize| Some(waiting + spans).filter(|sum| *sum <= MAX_SPANS);
        self.spans.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn leave(&self, spans: usize, counter: &Counter) {
        self.spans.fetch_sub(spans, Ordering::Relaxed);
        counter.increment(spans as u64);
    }
}

/// What has started: what decides about traces and takes them, the task that exports them, and what reads the certificates of
/// the receiver again.
pub(crate) type Started<F> = (Tracer, F, Option<Certificates>);

/// Starts what exports calls until `ended`, and then what is left.
///
/// # Errors
/// When the receiver's address or its certificates cannot be used.
pub(crate) fn start(
    rules: TraceRules,
    otlp: &Otlp,
    kept: Option<Arc<Kept>>,
    ended: CancellationToken,
) -> Result<Started<impl Future<Output = ()> + Send + use<>>, OtlpError> {
    let (exporter, certificates) = otlp.exporter()?;
    let waiting = Arc::new(Waiting::new());
    let (calls, taken) = mpsc::channel(MAX_SPANS);
    let buffer = Buffer { calls, waiting: waiting.clone() };
    let export = Export { exporter, taken, waiting, limit: otlp.timeout };
    let sink = Sink { export: Some(buffer), kept };
    Ok((Tracer::new(rules, Arc::new(sink)), export.run(ended), certificates))
}

/// Returns what keeps failed and slow calls in memory, and exports none.
pub fn keep(rules: TraceRules, kept: Arc<Kept>) -> Tracer {
    Tracer::keeping(rules, Arc::new(Sink { export: None, kept: Some(kept) }))
}

/// The spans of a call: its root, and those of its stages.
fn spans_of(call: &TracedCall) -> usize {
    1 + call.hops.iter().map(|hop| hop.stages.len()).sum::<usize>()
}

/// Where calls that have ended go.
#[derive(Debug)]
struct Sink {
    export: Option<Buffer>,
    kept: Option<Arc<Kept>>,
}

impl TraceSink for Sink {
    fn draw(&self) -> u128 {
        rand::random::<u128>().max(1)
    }

    fn take(&self, call: TracedCall) {
        let Some(kept) = &self.kept else {
            return self.export.iter().for_each(|export| export.take(call.clone()));
        };
        let call = Arc::new(call);
        kept.take(&call, true);
        if let Some(export) = &self.export {
            export.take(TracedCall::clone(&call));
        }
    }

    fn is_followed(&self, actor: &ActorRef) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.is_followed(actor))
    }

    fn follow(&self, call: TracedCall) {
        if let Some(kept) = &self.kept {
            kept.take(&Arc::new(call), false);
        }
    }
}

impl Buffer {
    fn take(&self, call: TracedCall) {
        let spans = spans_of(&call);
        if !self.waiting.enter(spans) {
            self.waiting.dropped.increment(spans as u64);
        } else if self.calls.try_send(call).is_err() {
            self.waiting.leave(spans, &self.waiting.dropped);
        }
    }
}

#[cfg(test)]
mod tests;
