//! Log level: which lines are logged, while the proxy runs. See `docs/running.md`.

use http::{Method, StatusCode, request};

use super::http::{Answer, JSON, Refusal, of_type};
use super::query::{Query, wrong};
use crate::log::filter;

/// Answers which filter counts; a PUT changes it first. The query, hence the audit, says to what.
pub(super) fn answer(head: &request::Parts) -> Result<Answer, Refusal> {
    let query = Query::read(head.uri.query())?;
    let filters = if head.method == Method::PUT {
        query.knows(&["filter"])?;
        filter::change(query.get("filter")).map_err(|error| wrong(error.to_string()))?
    } else {
        query.knows(&[])?;
        filter::current()
    };
    let none = || Refusal::new(StatusCode::NOT_FOUND, "this process does not log by itself");
    let body = serde_json::to_vec(&filters.ok_or_else(none)?);
    Ok(of_type(JSON, body.expect("texts become JSON").into()))
}
