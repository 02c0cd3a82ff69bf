//! Export: the task that sends spans to the receiver, batch by batch.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SpanExporter as _;
use tidegate_stages::traces::TracedCall;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::span_data::span_data;
use super::{Waiting, spans_of};

/// Calls in one batch.
const BATCH: usize = 128;

/// How long a batch is gathered.
const GATHERING: Duration = Duration::from_secs(1);

/// How long the end of the proxy waits for the receiver.
const FLUSH: Duration = Duration::from_secs(3);

/// The task; see the [module](self).
pub(super) struct Export {
    pub(super) exporter: SpanExporter,
    pub(super) taken: Receiver<TracedCall>,
    pub(super) waiting: Arc<Waiting>,
    /// How long one batch may take, tries again included.
    pub(super) limit: Duration,
}

impl Export {
    /// Exports until `ended`, then what is left, for a short time.
    pub(super) async fn run(mut self, ended: CancellationToken) {
        let (mut batch, mut is_refused) = (Vec::with_capacity(BATCH), false);
        // Unset until the end has begun.
        let mut last = None;
        loop {
            if last.is_none() {
                let gathered = ended.run_until_cancelled(self.gather(&mut batch)).await;
                if gathered.is_none() {
                    self.taken.close();
                    last = Some(Instant::now() + FLUSH);
                }
            }
            if batch.is_empty() && self.taken.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            let spans = batch.iter().map(spans_of).sum();
            let sent = self.send(batch.drain(..), last, &ended).await;
            match (&sent, is_refused) {
                (Err(error), false) => {
                    warn!(
                        error,
                        spans, "spans are dropped: the receiver of traces did not take them"
                    );
                }
                (Ok(()), true) => info!("the receiver of traces takes spans again"),
                _ => {}
            }
            is_refused = sent.is_err();
            let counter = if is_refused { &self.waiting.dropped } else { &self.waiting.exported };
            self.waiting.leave(spans, counter);
        }
    }

    /// Gathers a batch. Cancel safe: what was taken is in the batch.
    async fn gather(&mut self, batch: &mut Vec<TracedCall>) {
        if self.taken.recv_many(batch, BATCH).await == 0 {
            return;
        }
        let until = Instant::now() + GATHERING;
        while batch.len() < BATCH {
            let more = self.taken.recv_many(batch, BATCH - batch.len());
            if !matches!(timeout_at(until, more).await, Ok(count) if count > 0) {
                return;
            }
        }
    }

    /// Sends the spans of calls once, with the tries that the exporter makes; at the end of the proxy not longer than `last`.
    async fn send(
        &self,
        batch: impl Iterator<Item = TracedCall>,
        last: Option<Instant>,
        ended: &CancellationToken,
    ) -> Result<(), String> {
        let until = Instant::now() + self.limit;
        let sending = self.exporter.export(batch.flat_map(|call| span_data(&call)).collect());
        let sending = async { timeout_at(last.unwrap_or(until).min(until), sending).await };
        // An end that begins meanwhile does not wait longer than for all of it.
        let ending = async {
            ended.cancelled().await;
            tokio::time::sleep(FLUSH).await;
        };
        tokio::select! {
            sent = sending => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(in_one_line(&error)),
                Err(_) => Err("it did not answer in time".into()),
            },
            () = ending, if last.is_none() => Err("it did not answer before the end".into()),
        }
    }
}

/// An error that may have come from the receiver.
fn in_one_line(error: &impl Display) -> String {
    error
        .to_string()
        .chars()
        .take(300)
        .map(|sign| if sign.is_control() { ' ' } else { sign })
        .collect()
}
