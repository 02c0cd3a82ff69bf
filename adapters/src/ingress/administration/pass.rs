//! Pass: hands what the admin port does not answer itself to the API, and its answer back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tidegate_stages::identity::Identity;

use super::super::progress::InFlight;
use super::super::sending::{Held, Hold};
use super::super::taken::Taking;
use super::super::{Calls, Ingress};
use super::own::OfApi;

/// Answers as the API does, for the same client.
pub(super) async fn on<C: Calls>(
    State(ingress): State<Ingress<C>>,
    request: Request,
) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let client = head.extensions.get::<Identity>().cloned().unwrap_or_default();
    let answer = Box::pin(ingress.handle(&head, &mut body, client)).await;
    // The bytes count against the bound of all answers until the last of them has left.
    let mut answer = answer.map(|body| {
        body.into_inner().map_or_else(Body::empty, |held| Bytes::from_owner(held).into())
    });
    answer.extensions_mut().insert(OfApi);
    answer
}

/// The body of an answer, whose request is in flight until it has left. Over HTTP/2, its frames leave one by one, and the stream
/// is reset when no byte of a frame is taken for too long.
#[derive(Debug)]
pub(in crate::ingress) struct Passed {
    body: Body,
    /// How long the client may take no byte, over HTTP/2.
    limit: Option<Duration>,
    /// The last frame, over HTTP/2.
    taking: Option<Taking>,
    _in_flight: InFlight,
}

impl Passed {
    /// `limit`: how long the client may take no byte. `None`: its connection notes that.
    pub(super) fn new(body: Body, in_flight: InFlight, limit: Option<Duration>) -> Self {
        Self { body, limit, taking: None, _in_flight: in_flight }
    }
}

impl hyper::body::Body for Passed {
    type Data = Held;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, axum::Error>>> {
        let this = &mut *self;
        if let Some(taking) = &mut this.taking {
            if let Err(untaken) = ready!(taking.poll_all(cx)) {
                return Poll::Ready(Some(Err(axum::Error::new(untaken))));
            }
            this.taking = None;
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx)?);
        Poll::Ready(frame.map(|frame| {
            Ok(frame.map_data(|bytes| {
                let held = Held::new(bytes, Hold::default());
                let Some(limit) = this.limit else { return held };
                held.noting(this.taking.insert(Taking::new(limit)).taken())
            }))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.taking.as_ref().is_none_or(Taking::is_all) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
