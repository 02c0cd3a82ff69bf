//! Effects: shows what outboxes hold over HTTP, and delivers dead letters again or drops them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use tidegate_stages::access::Pattern;
use tidegate_stages::actor::ActorId;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::outbox::view::{DeadLetterChange, EffectCursor, EffectFilter};
use tidegate_stages::outbox::{EffectId, OutboxKey};
use tidegate_stages::state::Timestamp;

use super::Limits;
use super::http::{Answer, JSON, Refusal, of_type};
use super::query::{MOST, Query, wrong};
use super::route::Outboxes;
use super::sending::{Hold, Sending};
use crate::wire::{Effect, EffectListing, LettersChanged};

/// About how much of an answer an effect takes: names, action and reason.
const EFFECT_BYTES: usize = 1_024;

/// The parameters that choose effects.
const FILTER: [&str; 5] = ["source", "target", "action", "reason", "before"];

/// Takes bytes for what a look loads. Rows are read one page after the other, and only names are kept.
pub(super) async fn before_load(sending: &Sending, limits: &Limits) -> Result<Hold, Refusal> {
    let loaded = tidegate_stages::history::PAGE_BYTES + limits.state_bytes + MOST * EFFECT_BYTES;
    sending.before_load(loaded).await.map_err(|unread| unread.refusal(false))
}

/// Handles a request for effects.
pub(super) async fn answer(
    mesh: Option<&Mesh>,
    part: Outboxes<'_>,
    query: Option<&str>,
    is_delete: bool,
) -> Result<Answer, Refusal> {
    let Some(mesh) = mesh else {
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "there are no outboxes here"));
    };
    let query = Query::read(query)?;
    match part {
        Outboxes::All => list(mesh, &query).await,
        Outboxes::Change(change) => change_many(mesh, change, &query).await,
        Outboxes::One { system, source, id, change } => {
            query.knows(&[])?;
            let id: EffectId = id.parse().map_err(wrong)?;
            let change = change.or_else(|| is_delete.then_some(DeadLetterChange::Drop));
            let Some(change) = change else {
                let effect = Effect::from(mesh.effect(&system, &source, id).await?);
                return Ok(of_type(JSON, effect.encode()));
            };
            change_one(mesh, change, (&system, &source, id)).await
        }
    }
}

async fn list(mesh: &Mesh, query: &Query<'_>) -> Result<Answer, Refusal> {
    let known = FILTER.iter().chain(&["state", "limit", "next"]).copied().collect::<Vec<_>>();
    query.knows(&known)?;
    let mut filter = filter(query)?;
    filter.dead = match query.get("state") {
        None => None,
        Some("dead") => Some(true),
        Some("pending") => Some(false),
        Some(other) => {
            return Err(wrong(format!(
                "state in the query must be dead or pending, not {other:?}"
            )));
        }
    };
    let limit = query.limit()?;
    let page = mesh.effects(&filter, next(query)?, limit).await?;
    let listing = EffectListing {
        effects: page.effects.into_iter().map(Effect::from).collect(),
        next: page.next.as_ref().map(encode_next),
    };
    Ok(of_type(JSON, listing.encode()))
}

async fn change_many(
    mesh: &Mesh,
    change: DeadLetterChange,
    query: &Query<'_>,
) -> Result<Answer, Refusal> {
    let known = FILTER.iter().chain(&["all", "dry_run", "next"]).copied().collect::<Vec<_>>();
    query.knows(&known)?;
    let filter = filter(query)?;
    if filter.is_empty() && query.flag("all")? != Some(true) {
        let text = format!("needs ?all=true, or which dead letters: {}", FILTER.join(", "));
        return Err(wrong(text));
    }
    let is_dry_run = query.flag("dry_run")? == Some(true);
    let changed = mesh.change_dead_letters(change, filter, next(query)?, is_dry_run).await?;
    let next = changed.next.as_ref().map(encode_next);
    Ok(of_type(JSON, LettersChanged::new(&changed, next).encode()))
}

async fn change_one(
    mesh: &Mesh,
    change: DeadLetterChange,
    (system, source, id): (&str, &str, EffectId),
) -> Result<Answer, Refusal> {
    let mut after = None;
    loop {
        let filter = EffectFilter::of(system, source, id);
        let changed = mesh.change_dead_letters(change, filter, after, false).await?;
        let name = format!("{system}/{source}/{id}");
        let status_and_text = if changed.done > 0 {
            return Ok(of_type(JSON, LettersChanged::new(&changed, None).encode()));
        } else if changed.unregistered > 0 {
            let text = format!(
                "{system}/{source} is not registered, and {name} would be its effect: register or spawn it, or drop the dead letter"
            );
            (StatusCode::CONFLICT, text)
        } else if changed.full > 0 {
            let text = format!("not done: {system}/{source} has too many undelivered effects");
            (StatusCode::SERVICE_UNAVAILABLE, text)
        } else if changed.next.is_none() {
            (StatusCode::NOT_FOUND, format!("there is no dead letter {name}"))
        } else {
            after = changed.next;
            continue;
        };
        return Err(Refusal::new(status_and_text.0, status_and_text.1));
    }
}

fn filter(query: &Query<'_>) -> Result<EffectFilter, Refusal> {
    let names = |part: &str| {
        let Some(given) = query.get(part) else { return Ok(None) };
        let parsed = Pattern::parse(given).filter(|_| given.contains('/') || given == "*");
        parsed.map(Some).ok_or_else(|| {
            wrong(format!(
                "{part} in the query must be SYSTEM/ACTOR with one * at most, not {given:?}"
            ))
        })
    };
    Ok(EffectFilter {
        source: names("source")?,
        target: names("target")?,
        action: query.get("action").map(str::to_owned),
        reason: query.get("reason").map(str::to_owned),
        before: query.time("before")?,
        ..EffectFilter::default()
    })
}

/// How far a look has come, as text for a query.
type Next = (u64, String, String, String, Option<(u64, u64)>);

fn encode_next(cursor: &EffectCursor) -> String {
    let EffectCursor { began, source, row } = cursor;
    let ActorId { system, name, parent } = &**source;
    let row = row.map(|row| (row.epoch, row.place));
    let next: Next = (began.0, system.clone(), name.clone(), parent.clone(), row);
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&next).expect("texts and numbers"))
}

fn next(query: &Query<'_>) -> Result<Option<EffectCursor>, Refusal> {
    let Some(given) = query.get("next") else { return Ok(None) };
    decode_next(given).map(Some).ok_or_else(|| {
        let text = "next in the query must be what the last answer gave as \"next\"";
        wrong(format!("{text}, not {given:?}"))
    })
}

fn decode_next(given: &str) -> Option<EffectCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(given).ok()?;
    let (began, system, name, parent, row): Next = serde_json::from_slice(&bytes).ok()?;
    let row = row.map(|(epoch, place)| OutboxKey { epoch, place });
    let is_number = |number: u64| number <= u64::MAX / 2;
    let fits =
        is_number(began) && row.is_none_or(|row| is_number(row.epoch) && is_number(row.place));
    let source = Arc::new(ActorId { name, system, parent });
    fits.then_some(EffectCursor { began: Timestamp(began), source, row })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_goes_on_where_it_ended() {
        let source =
            ActorId { system: "s/1".into(), name: "pool\u{1}3".into(), parent: "é&".into() };
        for row in [None, Some(OutboxKey { epoch: 7, place: u64::MAX / 2 })] {
            let cursor = EffectCursor { began: Timestamp(9), source: source.clone().into(), row };
            assert_eq!(decode_next(&encode_next(&cursor)), Some(cursor));
        }
        let large = EffectCursor { began: Timestamp(u64::MAX), source: source.into(), row: None };
        assert_eq!(decode_next(&encode_next(&large)), None);
        assert_eq!(decode_next("x"), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let read = |text| filter(&Query::read(Some(text)).unwrap());
        assert!(read("source=s/a*&target=*/b&before=2000&reason=x%20y&action=").is_ok());
        for wrong in ["source=a", "source=s/*a*", "target=b", "before=yesterday"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
