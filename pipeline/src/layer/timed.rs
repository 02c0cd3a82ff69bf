//! Timed: measures how long a service takes, as a histogram by stage and outcome.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use metrics::{Histogram, histogram};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::metrics::STAGE_DURATION_SECONDS;

/// Mounts [`Timed`].
#[derive(Debug, Clone, Copy)]
pub struct TimedLayer {
    /// The value of the label `stage`.
    pub stage: &'static str,
}

impl<S> Layer<S> for TimedLayer {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        let duration = |outcome| histogram!(STAGE_DURATION_SECONDS, "stage" => self.stage, "outcome" => outcome);
        let durations = Durations { ok: duration("ok"), error: duration("error") };
        Timed { inner, durations: Arc::new(durations) }
    }
}

/// Measures each call from `call` to its response. A call that is dropped before is not measured. Made
/// by [`TimedLayer`].
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
    durations: Arc<Durations>,
}

#[derive(Debug)]
struct Durations {
    ok: Histogram,
    error: Histogram,
}

impl<Q, S: Service<Q>> Service<Q> for Timed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> TimedFuture<S::Future> {
        let started = Instant::now();
        TimedFuture {
            inner: self.inner.call(request),
            started,
            durations: Arc::clone(&self.durations),
        }
    }
}

pin_project! {
    /// Future of [`Timed`].
    #[derive(Debug)]
    pub struct TimedFuture<F> {
        #[pin]
        inner: F,
        started: Instant,
        durations: Arc<Durations>,
    }
}

impl<F: Future<Output = Result<R, E>>, R, E> Future for TimedFuture<F> {
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, E>> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx));
        let Durations { ok, error } = &**this.durations;
        let duration = if outcome.is_ok() { ok } else { error };
        duration.record(this.started.elapsed());
        Poll::Ready(outcome)
    }
}
