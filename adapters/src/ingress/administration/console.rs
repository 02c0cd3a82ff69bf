//! Console: the files of the console, which are part of the binary. They hold no secret, and are for anybody who reaches the admin
//! port: a browser cannot show a token before it has a page.

use ::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use ::http::{StatusCode, Uri};
use axum::body::Body;
use axum::response::Response;

use super::super::http::Refusal;
use super::told;
use crate::runbook;

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// Where the page is.
const PATH: &str = "/console";

macro_rules! files {
    ($($name:literal: $type:literal),* $(,)?) => {
        &[$(($name, $type, include_bytes!(concat!("../../../console/", $name)) as &[u8])),*]
    };
}

/// Name, type and content.
const FILES: &[(&str, &str, &[u8])] = files! {
    "index.html": "text/html; charset=utf-8",
    "console.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "main.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "flow.js": "text/javascript; charset=utf-8",
    "waiting.js": "text/javascript; charset=utf-8",
    "hot.js": "text/javascript; charset=utf-8",
    "warnings.js": "text/javascript; charset=utf-8",
    "actors.js": "text/javascript; charset=utf-8",
    "schedules.js": "text/javascript; charset=utf-8",
    "effects.js": "text/javascript; charset=utf-8",
    "channels.js": "text/javascript; charset=utf-8",
    "calls.js": "text/javascript; charset=utf-8",
    "record.js": "text/javascript; charset=utf-8",
    "recording.js": "text/javascript; charset=utf-8",
    "dialog.js": "text/javascript; charset=utf-8",
    "diff.js": "text/javascript; charset=utf-8",
    "json.js": "text/javascript; charset=utf-8",
};

/// Whether this is the path of a file, or leads to the page.
pub(super) fn has(path: &str) -> bool {
    path == "/" || path == PATH || path.strip_prefix(PATH).is_some_and(|rest| rest.starts_with('/'))
}

/// Leads to the page.
pub(super) fn elsewhere() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::FOUND;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(PATH));
    answer
}

/// Answers with a file.
pub(super) fn answer(uri: &Uri) -> Response<Body> {
    let rest = uri.path().strip_prefix(PATH).unwrap_or_default();
    let name = if rest.is_empty() { "index.html" } else { rest.trim_start_matches('/') };
    let Some((_, content_type, content)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return told(Err(Refusal::new(StatusCode::NOT_FOUND, "no such path")));
    };
    with(content, content_type)
}

/// Answers with a page of the runbook.
pub(super) fn runbook(uri: &Uri) -> Response<Body> {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    match runbook::page(name) {
        Some(text) => with(text.as_bytes(), "text/markdown; charset=utf-8"),
        None => told(Err(Refusal::new(StatusCode::NOT_FOUND, "no such page"))),
    }
}

fn with(content: &'static [u8], content_type: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(content));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER, HeaderValue::from_static("same-origin"));
    // Another version of the proxy has other files under the same names.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}
