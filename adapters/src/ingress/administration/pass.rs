//! Pass: hands what the admin port does not answer itself to the API, and its answer back.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tidegate_stages::identity::Identity;

use super::super::progress::InFlight;
use super::super::{Calls, Ingress};

/// Answers as the API does, for the same client.
pub(super) async fn on<C: Calls>(
    State(ingress): State<Ingress<C>>,
    request: Request,
) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let client = head.extensions.get::<Identity>().cloned().unwrap_or_default();
    let answer = Box::pin(ingress.handle(&head, &mut body, client)).await;
    // The bytes count against the bound of all answers until the last of them has left.
    answer.map(|body| {
        body.into_inner().map_or_else(Body::empty, |held| Bytes::from_owner(held).into())
    })
}

/// The body of an answer, whose request is in flight until it has left.
#[derive(Debug)]
pub(in crate::ingress) struct Passed {
    body: Body,
    _in_flight: InFlight,
}

impl Passed {
    pub(super) fn new(body: Body, in_flight: InFlight) -> Self {
        Self { body, _in_flight: in_flight }
    }
}

impl hyper::body::Body for Passed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
