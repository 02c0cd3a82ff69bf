//! Own: what the answers of the port itself have in common with those of the API.

use ::http::header::HeaderValue;
use ::http::{Response, request};
use axum::body::Body;

use super::super::cors;
use super::super::route::Resource;
use super::super::trust::Trust;
use super::{METHODS, OWN, whole};

/// Marks an answer of the API, which has all of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfApi;

/// What is kept of the head of a request until it is answered.
#[derive(Debug)]
pub(super) struct Heard {
    /// Of the page behind the request, if it is known.
    origin: Option<HeaderValue>,
}

impl Heard {
    pub(super) fn of(head: &request::Parts, trust: &Trust) -> Self {
        Self { origin: cors::known_origin(trust, head).cloned() }
    }

    /// Adds to an answer of the port itself what those of the API have.
    pub(super) fn finish(&self, answer: &mut Response<Body>) {
        if answer.extensions().get::<OfApi>().is_none() {
            cors::label(self.origin.as_ref(), answer);
        }
    }
}

/// The answer to a browser that asks beforehand. It shows no credentials, so it is answered before they are asked for.
pub(super) fn preflight(head: &request::Parts, trust: &Trust) -> Option<Response<Body>> {
    let path = head.uri.path();
    let allowed = Resource::find(path).ok().map(|resource| resource.allowed());
    let allowed = allowed.or_else(|| path.starts_with(OWN).then_some(METHODS))?;
    cors::preflight(trust, head, allowed).map(whole)
}
