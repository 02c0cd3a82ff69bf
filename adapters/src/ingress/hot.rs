//! Hot: the heaviest actors, by calls, time of turns, bytes, or turns that wait, as JSON.

use http::Uri;
use serde::{Deserialize, Serialize};
use tidegate_stages::mesh::{HotActor, HotSeen, Measure, Mesh};

use super::http::{Answer, JSON, Refusal, of_type};
use super::query::{Query, wrong};

/// The heaviest actors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HotBody {
    /// `calls`, `time`, `bytes` or `queue`.
    pub(crate) by: String,
    /// What is counted: `calls`, `us`, `bytes` or `turns`.
    pub(crate) unit: String,
    /// How long was counted until now; 0: the counts are those of this moment.
    pub(crate) covers_ms: u64,
    /// What all actors come to.
    pub(crate) total: u64,
    /// The most that an actor comes to that is not counted by its name.
    pub(crate) others_at_most: u64,
    /// The heaviest first.
    pub(crate) actors: Vec<HotLine>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HotLine {
    pub(crate) system: String,
    pub(crate) name: String,
    /// The member of the pool of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) member: Option<String>,
    /// At most so much.
    pub(crate) count: u64,
    /// At least so much less of it.
    pub(crate) error: u64,
    /// The part of the total that `count` is.
    pub(crate) share: f64,
}

/// What can be asked for, with its unit; without a measure: turns that wait.
const MEASURES: [(&str, &str, Option<Measure>); 4] = [
    ("calls", "calls", Some(Measure::Calls)),
    ("time", "us", Some(Measure::Time)),
    ("bytes", "bytes", Some(Measure::Bytes)),
    ("queue", "turns", None),
];

/// Answers with the heaviest actors by one measure.
pub(super) fn answer(mesh: &Mesh, uri: &Uri) -> Result<Answer, Refusal> {
    let query = Query::read(uri.query())?;
    query.knows(&["by", "limit"])?;
    let asked = query.get("by").unwrap_or("calls");
    let known = MEASURES.iter().find(|(by, ..)| *by == asked);
    let (by, unit, measure) = known.ok_or_else(|| {
        wrong(format!("by in the query must be calls, time, bytes or queue, not {asked:?}"))
    })?;
    let limit = query.limit()?;
    let seen = match measure {
        Some(measure) => mesh.hottest(*measure, limit),
        None => mesh.deepest(limit),
    };
    let HotSeen { covers, total, others_at_most, actors } = seen;
    let body = HotBody {
        by: (*by).to_owned(),
        unit: (*unit).to_owned(),
        covers_ms: u64::try_from(covers.as_millis()).unwrap_or(u64::MAX),
        total,
        others_at_most,
        actors: actors.into_iter().map(|actor| line(actor, total)).collect(),
    };
    let bytes = serde_json::to_vec(&body).expect("texts and numbers become JSON");
    Ok(of_type(JSON, bytes.into()))
}

fn line(actor: HotActor, total: u64) -> HotLine {
    let HotActor { system, name, member, count, error } = actor;
    HotLine { system, name, member, count, error, share: share(count, total) }
}

#[expect(clippy::cast_precision_loss, reason = "a share has a few digits only")]
fn share(count: u64, total: u64) -> f64 {
    // The counts of two minutes may exceed their total, by their errors.
    (count as f64 / total.max(1) as f64).min(1.0)
}
