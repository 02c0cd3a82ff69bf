//! Control: lists actors with what they do, and cancels, pauses, resumes or deactivates those that a filter matches.
//!
//! `GET /api/v1/actors` answers a page of them, `POST /api/v1/actors/:verb` does something with a page of them, and says how
//! many there were. Both answer `next` when there are more. See `docs/control.md`.

mod listed;
mod summary;

use std::time::Duration;

use futures_util::future::join_all;
use http::request;
use jiff::SignedDuration;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tidegate_stages::actor::ActorRef;
use tidegate_stages::blocked_on::{ActorFilter, TurnId, Turns};
use tidegate_stages::error::Error;
use tidegate_stages::identity::Identity;
use tidegate_stages::mesh::Mesh;
use tokio::time::Instant;

use super::http::{Answer, JSON, Refusal, of_type};
use super::query::{Query, wrong};
use super::route::Verb;
pub(in crate::ingress) use listed::listed;
pub(crate) use listed::{ActorList, Listed, ListedTurn};
pub(super) use summary::summary;
pub(crate) use summary::{Line, SummaryBody};

/// The parameters that choose actors. All of them have to be true of an actor.
const FILTER: [&str; 12] = [
    "system",
    "name",
    "kind",
    "definition",
    "host",
    "state",
    "paused",
    "stuck",
    "unused",
    "mailbox",
    "failed",
    "error",
];

/// Actors that one request changes.
const CHANGED: usize = 256;

/// What became of a request to change actors.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Actors that the filter matches.
    pub(crate) matched: usize,
    /// Of these, those that were changed; 0 in a dry run.
    pub(crate) changed: usize,
    /// Calls that were cancelled before they were started.
    pub(crate) removed: usize,
    /// Calls that ran and were told.
    pub(crate) told: usize,
    /// Why some were not changed: the first reasons.
    pub(crate) errors: Vec<String>,
    /// Actors that were not changed for such a reason.
    pub(crate) failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Most reasons in an answer.
const REASONS: usize = 10;

/// Answers a page of actors.
pub(super) async fn list(mesh: &Mesh, head: &request::Parts) -> Result<Answer, Refusal> {
    let query = Query::read(head.uri.query())?;
    let (filter, after) = wanted(&query, &["limit"])?;
    let limit = query.limit()?;
    let page = mesh.actors(&filter, after.as_ref(), limit).await;
    let last = page.items.last().filter(|_| page.more);
    let next = last.map(|last| next(&last.system, &last.name));
    let now = Instant::now();
    let actors = page.items.into_iter().map(|view| listed(view, now)).collect();
    Ok(json(&ActorList { actors, next }))
}

/// Does something with a page of actors.
pub(super) async fn change(
    mesh: &Mesh,
    verb: Verb,
    head: &request::Parts,
    client: &Identity,
) -> Result<Answer, Refusal> {
    let query = Query::read(head.uri.query())?;
    let more: &[_] = if verb == Verb::Cancel {
        &["dry_run", "all", "what", "turn"]
    } else {
        &["dry_run", "all"]
    };
    let (filter, after) = wanted(&query, more)?;
    if filter == ActorFilter::default() && query.flag("all")? != Some(true) {
        return Err(wrong("needs a filter in the query, such as system, or all=true".into()));
    }
    let turns = turns(&query, &filter)?;
    if mesh.is_closed() {
        return Err(Error::Draining.into());
    }
    let page = mesh.names(&filter, after.as_ref(), CHANGED).await;
    let last = page.items.last().filter(|_| page.more);
    let next = last.map(|last| next(last.system(), last.name()));
    let mut changed = Counted { matched: page.items.len(), next, ..Counted::default() };
    let named = filter.system.is_some() && filter.name.is_some();
    if named && page.items.is_empty() && filter_is_name_only(&filter) && verb != Verb::Resume {
        let (system, name) = (filter.system.unwrap_or_default(), filter.name.unwrap_or_default());
        return Err(Error::ActorNotFound { system, name }.into());
    }
    if query.flag("dry_run")? != Some(true) {
        let mut actors = page.items;
        if let (Verb::Resume, Some(system), Some(name)) = (verb, &filter.system, &filter.name)
            && actors.is_empty()
        {
            // It may have been deleted, and be paused all the same.
            actors.push(ActorRef::new(system, name));
        }
        let failures = carry_out(mesh, (verb, turns), actors, client, &mut changed).await?;
        changed.failed = failures.len();
        if named && let Some(only) = failures.first() {
            return Err(only.clone().into());
        }
        changed.errors = failures.iter().take(REASONS).map(ToString::to_string).collect();
    }
    Ok(json(&changed))
}

/// Changes the actors of a page. Returns why some were not changed.
async fn carry_out(
    mesh: &Mesh,
    (verb, turns): (Verb, Turns),
    actors: Vec<ActorRef>,
    client: &Identity,
    changed: &mut Counted,
) -> Result<Vec<Error>, Refusal> {
    let mut failures = Vec::new();
    match verb {
        Verb::Pause => changed.changed = mesh.pause_all(actors, &client.to_string()).await?,
        Verb::Resume => changed.changed = mesh.resume_all(actors).await?,
        Verb::Cancel => {
            for actor in actors {
                match mesh.cancel_turns(actor.system(), actor.name(), turns) {
                    Ok((removed, told)) => {
                        changed.changed += usize::from(removed + told > 0);
                        changed.removed += removed;
                        changed.told += told;
                    }
                    Err(error) => failures.push(error),
                }
            }
        }
        Verb::Deactivate => {
            let all = actors.iter().map(|actor| mesh.deactivate(actor.system(), actor.name()));
            for outcome in join_all(all).await {
                match outcome {
                    Ok(()) => changed.changed += 1,
                    Err(error) => failures.push(error),
                }
            }
        }
    }
    Ok(failures)
}

fn filter_is_name_only(filter: &ActorFilter) -> bool {
    let of_name = ActorFilter {
        system: filter.system.clone(),
        name: filter.name.clone(),
        ..ActorFilter::default()
    };
    *filter == of_name
}

/// Reads the filter, and where the page begins.
fn wanted(
    query: &Query<'_>,
    more: &[&str],
) -> Result<(ActorFilter, Option<(String, String)>), Refusal> {
    query.knows(&[&FILTER[..], &["next"], more].concat())?;
    let text = |name| query.get(name).map(str::to_owned);
    let time = |name| {
        let parsed = query.get(name).map(|given| {
            let least = given.parse::<SignedDuration>().ok();
            let least = least.and_then(|least| Duration::try_from(least).ok());
            least.ok_or_else(|| {
                wrong(format!(
                    "{name} in the query must be a time such as 10s or 5m, not {given:?}"
                ))
            })
        });
        parsed.transpose()
    };
    let live = match query.get("state") {
        None => None,
        Some("live") => Some(true),
        Some("stored") => Some(false),
        Some(given) => {
            return Err(wrong(format!("state in the query is live or stored, not {given:?}")));
        }
    };
    let mailbox = query.get("mailbox").map(|given| {
        let wrong = || wrong(format!("mailbox in the query must be a number, not {given:?}"));
        given.parse().map_err(|_| wrong())
    });
    let after = query.get("next").map(|given| {
        let (system, name) = given.split_once('/')?;
        let decoded = |part: &str| {
            let part = percent_encoding::percent_decode_str(part).decode_utf8().ok()?;
            Some(part.into_owned())
        };
        Some((decoded(system)?, decoded(name)?))
    });
    let after = after.map(|after| {
        after.ok_or_else(|| wrong("next in the query must be what the last answer gave".into()))
    });
    let filter = ActorFilter {
        system: text("system"),
        name: text("name"),
        kind: query.word("kind", &ActorFilter::KINDS)?.map(str::to_owned),
        definition: text("definition"),
        host: text("host"),
        paused: query.flag("paused")?,
        stuck: time("stuck")?,
        live,
        unused: time("unused")?,
        mailbox: mailbox.transpose()?,
        failed: query.flag("failed")?,
        error: text("error"),
    };
    Ok((filter, after.transpose()?))
}

fn turns(query: &Query<'_>, filter: &ActorFilter) -> Result<Turns, Refusal> {
    if let Some(given) = query.get("turn") {
        if filter.system.is_none() || filter.name.is_none() {
            return Err(wrong("a turn needs its actor: system and name in the query".into()));
        }
        let number = given.parse().map_err(|_| {
            wrong(format!("turn in the query must be a number from the list, not {given:?}"))
        })?;
        return Ok(Turns::One(TurnId::of_number(number)));
    }
    match query.get("what") {
        None | Some("running") => Ok(Turns::Running),
        Some("queued") => Ok(Turns::Queued),
        Some("all") => Ok(Turns::All),
        Some(given) => {
            Err(wrong(format!("what in the query is running, queued or all, not {given:?}")))
        }
    }
}

fn next(system: &str, name: &str) -> String {
    let encoded = |part| utf8_percent_encode(part, NON_ALPHANUMERIC);
    format!("{}/{}", encoded(system), encoded(name))
}

fn json(body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).expect("texts and numbers become JSON");
    of_type(JSON, bytes.into())
}
