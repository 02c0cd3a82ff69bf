//! Channels: shows how far durable topics and their subscribers are.

use http::request;
use tidegate_stages::mesh::Mesh;

use super::http::{Answer, JSON, Refusal, of_type};
use super::query::Query;
use super::route::Channels;
use crate::wire;

/// Handles a request for durable topics.
pub(super) fn answer(
    mesh: &Mesh,
    which: &Channels<'_>,
    head: &request::Parts,
) -> Result<Answer, Refusal> {
    let query = Query::read(head.uri.query())?;
    match which {
        Channels::All => {
            query.knows(&["system"])?;
            let system = query.get("system");
            let mut topics = mesh.durable_topics();
            topics.retain(|topic| system.is_none_or(|system| topic.system == system));
            Ok(of_type(JSON, wire::topics(&topics)))
        }
        Channels::Subscribers { system, topic } => {
            query.knows(&["limit", "next"])?;
            let (after, limit) = (query.get("next").unwrap_or_default(), query.limit()?);
            let (topic, page) = mesh.topic_subscribers(system, topic, after, limit)?;
            Ok(of_type(JSON, wire::subscribers(&topic, &page)))
        }
    }
}
