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

/// The actors that have waited longest.
#[derive(Debug, Serialize)]
struct WaitingList {
    actors: Vec<Listed>,
    /// How many wait in all.
    all: usize,
}

/// Answers with the first ones, the longest first.
pub(super) fn answer(mesh: &Mesh, uri: &Uri) -> Result<Response<Body>, Refusal> {
    let query = Query::read(uri.query())?;
    query.knows(&["system", "reason", "host", "limit"])?;
    let text = |name| query.get(name).map(str::to_owned);
    let filter =
        WaitingFilter { system: text("system"), reason: text("reason"), host: text("host") };
    Ok(whole(of_type(JSON, list(mesh, &filter, query.limit()?).into())))
}

/// Lists the first ones as JSON, the longest first.
pub(super) fn list(mesh: &Mesh, filter: &WaitingFilter, limit: usize) -> Vec<u8> {
    let (views, all) = mesh.waiting(filter, limit);
    let now = Instant::now();
    let actors = views.into_iter().map(|view| listed(view, now)).collect();
    let list = WaitingList { actors, all };
    serde_json::to_vec(&list).expect("texts and numbers become JSON")
}
