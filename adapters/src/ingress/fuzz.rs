//! Fuzz: paths and queries.

use http::Method;

use super::history::Span;
use super::query::Query;
use super::route::{Resource, revision};
use crate::fuzz::run;

#[test]
fn paths_and_queries() {
    let seeds = [
        "/api/v1/system",
        "/api/v1/system/s/actors/spawn?revision=7",
        "/api/v1/system/s%2F/actors/a%20b/invoke",
        "/api/v1/system/s/actors/a/revisions?from=2026-01-01T00:00:00Z&to=1764000000000000&limit=10",
        "/api/v1/system/s/actors/a/revisions?next=12-1764000000123456",
        "/api/v1/system/s/actors/a/state?at=2026-11-27T08:00:00.123Z",
        "/api/v1/backup/17",
        "/health/readiness?verbose",
        "/metrics",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
    run("paths", seeds.into(), |bytes| {
        // What hyper accepts as a target; anything else never gets here.
        let Ok(target) = http::uri::PathAndQuery::try_from(bytes) else { return };
        if let Ok(found) = Resource::find(target.path()) {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let resource = found.clone().under(&method);
                assert!(!resource.label().is_empty() && !resource.allowed().is_empty());
            }
            if let Resource::Actor { system, name } = &found {
                // Decoded once: written again, it is found again.
                let written = |name: &str| {
                    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
                        .to_string()
                };
                let again = format!("/api/v1/system/{}/actors/{}", written(system), written(name));
                assert_eq!(Resource::find(&again), Ok(found.clone()));
            }
        }
        drop(revision(target.query()));
        if let Ok(query) = Query::read(target.query()) {
            drop(Span::of(&query));
        }
    });
}
