//! Record: the flight recorder. What the console shows, of the last ten minutes and of now, as one JSON document.
//!
//! A recording holds names, numbers and reasons, and no content: no state, no payload, no metadata, and no text that an action has
//! made. Settings are those of `tidegate config`, with secrets masked.

mod ring;

use std::sync::Arc;

use ::http::header::{ACCEPT, HeaderValue};
use ::http::{HeaderMap, StatusCode, Uri, request};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_stages::identity::Identity;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tower::Service;

use super::super::admin::Shown;
use super::super::http::{JSON, Refusal, of_type};
use super::super::{Calls, Ingress};
use super::{knows_nothing, whole};
use crate::clock::SystemClock;
use crate::moment;
use ring::MASKED;
pub(super) use ring::Ring;

/// The format of a recording; a console opens those that it knows.
const FORMAT_VERSION: u32 = 1;
/// Recordings that are made or sent at once.
const AT_ONCE: usize = 2;
/// Largest answer that becomes a section, in bytes.
const SECTION_BYTES: usize = 4 << 20;
/// Systems whose schedules are recorded: the first ones.
const SYSTEMS: usize = 16;

/// What is asked of the admin port when a recording is made, and the fields of the answer that may hold what users' code has made.
const SECTIONS: [(&str, &[&str]); 11] = [
    ("/admin/about", &[]),
    ("/api/v1/summary", &["text"]),
    ("/api/v1/calls?limit=200", &["text"]),
    ("/api/v1/actors?limit=100", &["text"]),
    ("/api/v1/effects?limit=100", &["reason"]),
    ("/api/v1/channels", &[]),
    ("/admin/warnings", &[]),
    ("/admin/hot?by=calls&limit=50", &[]),
    ("/admin/hot?by=time&limit=50", &[]),
    ("/admin/hot?by=bytes&limit=50", &[]),
    ("/admin/hot?by=queue&limit=50", &[]),
];
/// As in [`SECTIONS`], of the schedules of a system.
const SCHEDULES: &[&str] = &["payload", "metadata", "error"];

/// Makes recordings. Cheap to clone.
#[derive(Debug)]
pub(super) struct Recorder<C> {
    router: Router,
    ring: Ring,
    ingress: Ingress<C>,
    started: Instant,
    places: Arc<Semaphore>,
}

impl<C> Clone for Recorder<C> {
    fn clone(&self) -> Self {
        let Self { router, ring, ingress, started, places } = self;
        let (router, ring, ingress) = (router.clone(), ring.clone(), ingress.clone());
        Self { router, ring, ingress, started: *started, places: places.clone() }
    }
}

/// The beginning of a recording.
#[derive(Debug, Serialize)]
struct Head<'a> {
    format: &'static str,
    format_version: u32,
    recorded_at: String,
    address: &'a str,
    version: &'static str,
    uptime_ms: u64,
    period_ms: u64,
    /// Looks that had no place among the last ten minutes.
    looks_left_out: u64,
    settings: Vec<&'a str>,
    /// What the admin port answered, by path.
    sections: Map<String, Value>,
    /// Why sections are absent, by path.
    absent: Map<String, Value>,
}

/// A recording, which holds its place until its last byte has left.
struct Recording {
    bytes: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Recording {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<C: Calls> Recorder<C> {
    pub(super) fn new(router: Router, ring: Ring, ingress: Ingress<C>) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { router, ring, ingress, started: Instant::now(), places }
    }

    /// Answers with a recording. A recording hands out data: it leaves its lines in the audit, or is not made.
    pub(super) async fn answer(self, request: Request) -> Result<Response<Body>, Refusal> {
        let (head, _) = request.into_parts();
        let client = head.extensions.get::<Identity>().cloned().unwrap_or_default();
        let ingress = &self.ingress.0;
        let shown = Shown::of(ingress.parts.trust.admin_token.as_ref(), &head.headers);
        let entry = Box::pin(ingress.begun(shown, &head, &client)).await?;
        let made = self.make(&head, &client).await;
        entry.end(made.as_ref().map_or_else(Refusal::text, |_| "done"));
        made
    }

    async fn make(
        &self,
        head: &request::Parts,
        client: &Identity,
    ) -> Result<Response<Body>, Refusal> {
        knows_nothing(&head.uri)?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "other recordings are being made")
        })?;
        let mut headers = head.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let (mut sections, mut absent) = (Map::new(), Map::new());
        for (path, fields) in self.paths() {
            let path = &path[..];
            // Without the limit: that bounds what is asked, and is not what the section is.
            let name = path.split_once("limit=").map_or(path, |(name, _)| name);
            let name = name.trim_end_matches(['?', '&']).to_owned();
            match self.section(path, &headers, client).await {
                Ok(mut section) => {
                    mask(&mut section, fields);
                    sections.insert(name, section);
                }
                Err(why) => drop(absent.insert(name, why.into())),
            }
        }
        let bytes = self.document(sections, absent);
        let recording = Recording { bytes, _place: place };
        Ok(whole(of_type(JSON, Bytes::from_owner(recording))))
    }

    /// What is asked for, with the fields that are masked.
    fn paths(&self) -> Vec<(String, &'static [&'static str])> {
        let systems = self.ingress.0.controlled.get().map(Mesh::systems).unwrap_or_default();
        let schedules = systems.iter().take(SYSTEMS).map(|system| {
            let system = utf8_percent_encode(system, NON_ALPHANUMERIC);
            (format!("/api/v1/system/{system}/schedules?limit=100"), SCHEDULES)
        });
        SECTIONS
            .iter()
            .map(|(path, fields)| ((*path).to_owned(), *fields))
            .chain(schedules)
            .collect()
    }

    /// Asks as the client would, who gets nothing else by a recording.
    async fn section(
        &self,
        path: &str,
        headers: &HeaderMap,
        client: &Identity,
    ) -> Result<Value, String> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse::<Uri>().map_err(|error| error.to_string())?;
        *request.headers_mut() = headers.clone();
        request.extensions_mut().insert(client.clone());
        let mut router = self.router.clone();
        let answer = match router.call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let status = answer.status();
        let body = to_bytes(answer.into_body(), SECTION_BYTES).await;
        let body = body.map_err(|_| format!("larger than {SECTION_BYTES} bytes"))?;
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    fn document(&self, sections: Map<String, Value>, absent: Map<String, Value>) -> Vec<u8> {
        let described = self.ingress.0.described.get();
        let (looks, looks_left_out) = self.ring.looks();
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let head = Head {
            format: "tidegate-record",
            format_version: FORMAT_VERSION,
            recorded_at: moment::show(SystemClock.now()),
            address: described.map_or("", |described| &described.address),
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: millis(self.started.elapsed()),
            period_ms: millis(ring::PERIOD),
            looks_left_out,
            settings: described.map(|it| it.settings.lines().collect()).unwrap_or_default(),
            sections,
            absent,
        };
        let mut bytes = serde_json::to_vec(&head).expect("texts and numbers become JSON");
        // The looks are JSON already.
        bytes.pop();
        bytes.extend_from_slice(b",\"looks\":[");
        bytes.extend_from_slice(&looks.join(&b","[..]));
        bytes.extend_from_slice(b"]}\n");
        bytes
    }
}

/// Masks these fields, however deep they are.
fn mask(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if fields.contains(&name.as_str()) {
                    *value = MASKED.into();
                } else {
                    mask(value, fields);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, fields)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_masked_however_deep_they_are() {
        let mut value = json!([{"a": {"text": "secret", "b": 1}, "text": {"c": "secret"}}]);
        mask(&mut value, &["text"]);
        assert_eq!(value, json!([{"a": {"text": MASKED, "b": 1}, "text": MASKED}]));
    }
}
