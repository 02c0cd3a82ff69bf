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

/// Whether the log tells nothing of the audit any more after this request.
pub(super) fn silences_the_audit(head: &request::Parts) -> bool {
    let query = Query::read(head.uri.query()).ok().filter(|_| head.method == Method::PUT);
    query.is_some_and(|query| filter::silences_the_audit(query.get("filter")))
}
