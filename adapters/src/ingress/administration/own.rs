//! Own: what the answers of the port itself have in common with those of the API.

use ::http::header::HeaderValue;
use ::http::{Response, request};
use axum::body::Body;

use super::super::answer::{REQUEST_ID, name, request_id};
use super::super::cors;
use super::super::metrics::Requests;
use super::super::route::Resource;
use super::super::trust::Trust;
use super::{METHODS, OWN, console, whole};

/// Marks an answer of the API, which has all of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfApi;

/// What is kept of the head of a request until it is answered.
#[derive(Debug)]
pub(super) struct Heard {
    /// Its name in metrics.
    route: &'static str,
    /// The id that its client chose.
    request_id: Option<HeaderValue>,
    /// Of the page behind the request, if it is known.
    origin: Option<HeaderValue>,
}

impl Heard {
    pub(super) fn of(head: &request::Parts, trust: &Trust) -> Self {
        let path = head.uri.path();
        let route = match Resource::find(path) {
            Ok(resource) => resource.under(&head.method).label(),
            Err(_) if path.starts_with(OWN) => "admin",
            Err(_) if console::has(path) => "console",
            Err(_) => "none",
        };
        let request_id = head.headers.get(REQUEST_ID).cloned();
        Self { route, request_id, origin: cors::known_origin(trust, head).cloned() }
    }

    /// Adds to an answer of the port itself what those of the API have.
    pub(super) fn finish(&self, answer: &mut Response<Body>, counted: &Requests) {
        if answer.extensions().get::<OfApi>().is_some() {
            return;
        }
        counted.count(self.route, answer.status());
        cors::label(self.origin.as_ref(), answer);
        let given = self.request_id.as_ref();
        name(answer, &request_id(given), given);
    }
}

/// The answer to a browser that asks beforehand. It shows no credentials, so it is answered before they are asked for.
pub(super) fn preflight(head: &request::Parts, trust: &Trust) -> Option<Response<Body>> {
    let path = head.uri.path();
    let allowed = Resource::find(path).ok().map(|resource| resource.allowed());
    let allowed = allowed.or_else(|| path.starts_with(OWN).then_some(METHODS))?;
    cors::preflight(trust, head, allowed).map(whole)
}
