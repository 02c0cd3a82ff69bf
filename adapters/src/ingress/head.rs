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
use super::{Calls, Inner, body};

/// What clients usually send.
const OCTET_STREAM: &str = "application/octet-stream";

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
        if head.method == Method::POST && resource.takes_body() {
            check_media_type(&head.headers)?;
            body::check(body, self.parts.limits.body_bytes, &self.bodies)?;
        }
        Ok(resource)
    }
}

/// A missing type counts as octet-stream (decision 25).
fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    if given == OCTET_STREAM {
        return Ok(());
    }
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let known = [OCTET_STREAM, "application/protobuf", "application/x-protobuf"];
    if known.iter().any(|known| known.eq_ignore_ascii_case(essence)) {
        return Ok(());
    }
    let text = format!("content type {given:?} is not understood, send application/octet-stream");
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}
