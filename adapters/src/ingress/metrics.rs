//! Metrics: the counters of the requests.

use std::sync::OnceLock;

use ::metrics::{Counter, counter};
use http::StatusCode;

use crate::metrics::REQUESTS_TOTAL;

/// The names of all resources, those of the admin port, and that of none.
pub(super) const ROUTES: [&str; 28] = [
    "invoke",
    "register",
    "spawn",
    "actor",
    "revisions",
    "revision",
    "state",
    "restore",
    "checkpoint",
    "publish",
    "channels",
    "hosts",
    "backup",
    "effects",
    "schedules",
    "actors",
    "summary",
    "hot",
    "warnings",
    "calls",
    "follow",
    "log_level",
    "health",
    "metrics",
    "openapi",
    "admin",
    "console",
    "none",
];
const STATUSES: [&str; 20] = [
    "200", "204", "302", "400", "401", "403", "404", "405", "406", "408", "409", "413", "415",
    "429", "500", "501", "502", "503", "504", OTHER,
];
/// All others: what actions in JSON answer to their callers.
const OTHER: &str = "4xx";

/// The label of a status; `None`: a success that no route answers with.
pub(super) fn status_label(status: StatusCode) -> Option<&'static str> {
    let known = STATUSES.into_iter().find(|known| *known == status.as_str());
    known.or_else(|| status.is_client_error().then_some(OTHER))
}

/// Counters of [`REQUESTS_TOTAL`]; each is created at first use.
#[derive(Debug, Default)]
pub(super) struct Requests([[OnceLock<Counter>; STATUSES.len()]; ROUTES.len()]);

impl Requests {
    /// Counts a response.
    pub(super) fn count(&self, route: &'static str, status: StatusCode) {
        let row = ROUTES.iter().position(|known| *known == route);
        let told = status_label(status);
        let column = told.and_then(|told| STATUSES.iter().position(|known| *known == told));
        debug_assert!(row.is_some() && column.is_some(), "{route} {status} is not in the tables");
        let cell = row.zip(column).and_then(|(row, column)| self.0.get(row)?.get(column));
        if let Some((cell, told)) = cell.zip(told) {
            let made = || counter!(REQUESTS_TOTAL, "route" => route, "status" => told);
            cell.get_or_init(made).increment(1);
        }
    }
}
