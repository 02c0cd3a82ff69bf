//! Head: refuses what the head of a request condemns alone, before its body is read (decision 39).
//!
//! Checks of a head stand in [`check`](Inner::check), cheapest first. A check that needs one route only stands with that route,
//! before its body is read.

use http::header::CONTENT_TYPE;
use http::request;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Body;
use tidegate_stages::error::Error;

use super::http::Refusal;
use super::lifecycle::Phase;
use super::route::{NoResource, Resource};
use super::{Calls, Inner, accept, body};

impl<C: Calls> Inner<C> {
    /// Returns the resource of a request whose head is right.
    pub(super) fn check<'a>(
        &self,
        found: Result<Resource<'a>, NoResource>,
        head: &request::Parts,
        body: &impl Body,
    ) -> Result<Resource<'a>, Refusal> {
        let resource = found.map_err(|none| match none {
            NoResource::Unknown => Refusal::new(StatusCode::NOT_FOUND, "no such path"),
            NoResource::NotText => {
                Refusal::new(StatusCode::BAD_REQUEST, "a name in the path is not UTF-8")
            }
        })?;
        if !resource.allows(&head.method) {
            return Err(Refusal::method(resource.allowed()));
        }
        if resource.is_about_the_proxy() {
            return Ok(resource);
        }
        if self.parts.lifecycle.phase() >= Phase::Draining {
            return Err(Error::Draining.into());
        }
        if matches!(head.method, Method::POST | Method::PUT) && resource.takes_body() {
            check_media_type(&head.headers)?;
            body::check(body, self.parts.limits.body_bytes, &self.bodies)?;
        }
        Ok(resource)
    }
}

/// A missing type counts as octet-stream (decision 25).
fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    if accept::content_form(headers).is_some() {
        return Ok(());
    }
    let given = headers.get(CONTENT_TYPE);
    let text = format!(
        "content type {} is not understood, send application/octet-stream or application/json",
        given.map_or_else(String::new, |given| format!("{given:?}"))
    );
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}
