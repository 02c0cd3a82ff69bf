//! Flow: what each stage does, what turns wait for and what holds them up, as of the last second: once, or as a stream.
//!
//! The figures of stages are those of `/metrics`; what turns wait for is looked at in the same mailboxes. One task samples both, once
//! a second, and only while somebody looks.

mod bottleneck;
mod sample;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::super::answer::opening;
use super::super::http::{JSON, Refusal, of_type};
use super::super::{Calls, Ingress};
use super::{knows_nothing, whole};
use sample::{Flow, Sample};

/// How often there are new figures.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the first ones may take.
const FIRST: Duration = Duration::from_secs(5);
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// What those who look share: the newest figures as JSON, and how to ask for some.
#[derive(Debug, Clone)]
pub(super) struct Looks {
    /// Nobody looks through this one itself.
    newest: Arc<watch::Receiver<Option<Bytes>>>,
    wanted: Arc<Notify>,
}

/// Makes new figures while somebody looks.
#[derive(Debug)]
pub(super) struct Sampler {
    newest: watch::Sender<Option<Bytes>>,
    wanted: Arc<Notify>,
}

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Since(Option<Sample>);

impl Since {
    /// Returns what has come since the last look, as JSON; nothing at the first one, or while the store opens.
    pub(super) fn look<C: Calls>(&mut self, ingress: &Ingress<C>) -> Option<Vec<u8>> {
        let before = std::mem::replace(&mut self.0, Sample::take(ingress));
        let flow = Flow::between(&before?, self.0.as_ref()?);
        Some(serde_json::to_vec(&flow).expect("texts and numbers become JSON"))
    }
}

/// A sampler, and what it serves.
pub(super) fn sampler() -> (Sampler, Looks) {
    let (sender, newest) = watch::channel(None);
    let wanted = Arc::<Notify>::default();
    (Sampler { newest: sender, wanted: wanted.clone() }, Looks { newest: Arc::new(newest), wanted })
}

impl Sampler {
    /// Runs until it is dropped; streams end then.
    pub(super) async fn run<C: Calls>(self, ingress: Ingress<C>) {
        let mut since = Since::default();
        loop {
            // One receiver is that of the server itself.
            if self.newest.receiver_count() <= 1 {
                self.newest.send_replace(None);
                since = Since::default();
                self.wanted.notified().await;
            }
            if let Some(json) = since.look(&ingress) {
                self.newest.send_replace(Some(json.into()));
            }
            sleep(PERIOD).await;
        }
    }
}

impl Looks {
    fn subscribe(&self) -> watch::Receiver<Option<Bytes>> {
        let newest = watch::Receiver::clone(&self.newest);
        self.wanted.notify_one();
        newest
    }

    /// The newest figures. When nobody else looks, they take a second.
    pub(super) async fn once(self, uri: &Uri) -> Result<Response<Body>, Refusal> {
        knows_nothing(uri)?;
        let mut newest = self.subscribe();
        let first = timeout(FIRST, newest.wait_for(Option::is_some)).await;
        let Ok(Ok(json)) = first else { return Err(opening().into()) };
        let json = json.clone().unwrap_or_default();
        Ok(whole(of_type(JSON, json)))
    }

    /// The figures of each second from now on, as server-sent events.
    pub(super) fn live(self, uri: &Uri) -> Result<Response<Body>, Refusal> {
        knows_nothing(uri)?;
        let mut newest = self.subscribe();
        newest.mark_changed();
        let events = stream::unfold(newest, |mut newest| async move {
            loop {
                newest.changed().await.ok()?;
                let json = newest.borrow_and_update().clone();
                if let Some(json) = json {
                    let event = [b"event: flow\ndata: ", &json[..], b"\n\n"].concat();
                    return Some((Ok::<_, Infallible>(Bytes::from(event)), newest));
                }
            }
        });
        let mut answer = Response::new(Body::from_stream(events));
        answer.headers_mut().insert(CONTENT_TYPE, EVENTS);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }
}
