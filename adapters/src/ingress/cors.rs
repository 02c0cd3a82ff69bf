//! CORS: what a browser needs to know before a page of a known origin may send a request, or read its answer. Pages of other
//! origins are told nothing, and so their browsers keep them out.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response, StatusCode, request};

use super::http::Answer;
use super::trust::Trust;

/// Headers that a page may send.
const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, traceparent");
/// Headers that a page may read besides those that it always may.
const READ: HeaderValue = HeaderValue::from_static("retry-after, tidegate-error-source");

/// The answer to a browser that asks whether a page of a known origin may use one of these methods; `None`: it does not ask, or
/// its page is not known.
pub(super) fn preflight(
    trust: &Trust,
    head: &request::Parts,
    methods: &'static str,
) -> Option<Answer> {
    let asks = head.method == Method::OPTIONS
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && known_origin(trust, head).is_some();
    asks.then(|| {
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        answer
    })
}

/// Lets pages of this known origin read an answer.
pub(super) fn label<B>(origin: Option<&HeaderValue>, answer: &mut Response<B>) {
    if let Some(origin) = origin {
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
}

/// The origin of the page behind a request, if it is known.
pub(super) fn known_origin<'a>(trust: &Trust, head: &'a request::Parts) -> Option<&'a HeaderValue> {
    if trust.origins.is_empty() {
        return None;
    }
    head.headers.get(ORIGIN).filter(|origin| trust.knows_origin(origin.as_bytes()))
}
