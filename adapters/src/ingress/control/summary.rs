//! Summary: what all actors do, added up, as JSON.

use serde::{Deserialize, Serialize};
use tidegate_stages::mesh::{Mesh, Totals};
use tokio::time::Instant;

use super::listed::{Listed, listed};
use super::{Answer, json};

/// What all actors do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SummaryBody {
    pub(crate) systems: Vec<Line>,
    pub(crate) hosts: Vec<Line>,
    /// The actors with the most turns that wait.
    pub(crate) busiest: Vec<Listed>,
}

/// What the actors of one system, or of one host, do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) actors: usize,
    pub(crate) in_memory: usize,
    pub(crate) running: usize,
    pub(crate) queued: usize,
    pub(crate) paused: usize,
}

/// Answers what all actors do.
pub(in crate::ingress) async fn summary(mesh: &Mesh) -> Answer {
    let summary = mesh.summary().await;
    let now = Instant::now();
    json(&SummaryBody {
        systems: summary.systems.into_iter().map(line).collect(),
        hosts: summary.hosts.into_iter().map(line).collect(),
        busiest: summary.busiest.into_iter().map(|view| listed(view, now)).collect(),
    })
}

fn line((name, totals): (String, Totals)) -> Line {
    let Totals { actors, in_memory, running, queued, paused } = totals;
    Line { name, actors, in_memory, running, queued, paused }
}
