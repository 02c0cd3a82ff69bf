//! About: what the admin port says of the proxy itself.

use ::http::Uri;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tidegate_stages::mesh::Mesh;

use super::super::http::{JSON, of_type};
use super::super::lifecycle::Phase;
use super::super::{Calls, Ingress};
use super::{knows_nothing, told, whole};

/// The proxy.
#[derive(Debug, Serialize)]
struct About {
    version: &'static str,
    /// `opening`, `serving`, `leaving` or `draining`.
    phase: &'static str,
    /// Whether the store answers; absent until it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_up: Option<bool>,
    /// The actor systems that are registered here.
    systems: Vec<String>,
}

/// Answers with the version, the phase and the systems.
pub(super) async fn answer<C: Calls>(
    State(ingress): State<Ingress<C>>,
    uri: Uri,
) -> Response<Body> {
    if let Err(refusal) = knows_nothing(&uri) {
        return told(Err(refusal));
    }
    let inner = &ingress.0;
    let store_up = inner.opened.get().map(|opened| (opened.store_works)());
    let phase = match inner.parts.lifecycle.phase() {
        Phase::Serving if store_up.is_none() => "opening",
        Phase::Serving => "serving",
        Phase::Leaving => "leaving",
        Phase::Draining => "draining",
    };
    let systems = inner.controlled.get().map(Mesh::systems).unwrap_or_default();
    let about = About { version: env!("CARGO_PKG_VERSION"), phase, store_up, systems };
    let bytes = serde_json::to_vec(&about).expect("texts become JSON");
    whole(of_type(JSON, bytes.into()))
}
