//! Waiting: the actors whose turns have waited longest, with what they wait for.

use ::http::Uri;
use axum::body::Body;
use axum::response::Response;
use serde::Serialize;
use tidegate_stages::mesh::{Mesh, WaitingFilter};
use tokio::time::Instant;

use super::super::control::{Listed, listed};
use super::super::http::{JSON, Refusal, of_type};
use super::super::query::Query;
use super::whole;

/// What the list of actors calls the reason `actor_turn`.
const TURN: &str = "turn";

/// The actors that have waited longest.
#[derive(Debug, Serialize)]
pub(super) struct WaitingList {
    pub(super) actors: Vec<Listed>,
    /// How many wait in all.
    all: usize,
}

/// Answers with the first ones, the longest first.
pub(super) fn answer(mesh: &Mesh, uri: &Uri) -> Result<Response<Body>, Refusal> {
    let query = Query::read(uri.query())?;
    query.knows(&["system", "reason", "host", "limit"])?;
    let text = |name| query.get(name).map(str::to_owned);
    let known: Vec<_> = WaitingFilter::reasons().chain([TURN]).collect();
    let reason = query.word("reason", &known)?;
    let reason = reason.map(|given| if given == TURN { "actor_turn" } else { given });
    let filter = WaitingFilter {
        system: text("system"),
        reason: reason.map(str::to_owned),
        host: text("host"),
    };
    Ok(whole(of_type(JSON, list(mesh, &filter, query.limit()?).encode().into())))
}

impl WaitingList {
    /// Encodes the list as JSON.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers become JSON")
    }
}

/// Lists the first actors that wait, the longest first.
pub(super) fn list(mesh: &Mesh, filter: &WaitingFilter, limit: usize) -> WaitingList {
    let (views, all) = mesh.waiting(filter, limit);
    let now = Instant::now();
    let actors = views.into_iter().map(|view| listed(view, now)).collect();
    WaitingList { actors, all }
}
