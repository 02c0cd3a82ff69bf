//! History: reads and writes an actor's history over HTTP.

mod span;

use http::{StatusCode, request};
use tidegate_stages::history::{PAGE_BYTES, Page, Position};
use tidegate_stages::state::Revision;

use super::http::{Answer, JSON, Refusal, octets, of_type};
use super::query::Query;
use super::route::Part;
use super::sending::{Hold, Sending};
use super::{Calls, Limits, accept};
use crate::wire::{Entry, Form, Listing};
pub(crate) use span::Span;

/// Takes bytes for the data that a request will load, before it is loaded: what the store returns, and its encoded form.
pub(super) async fn before_load(
    sending: &Sending,
    limits: &Limits,
    part: Part<'_>,
) -> Result<Hold, Refusal> {
    let loaded = match part {
        // The last entry of a page may go beyond its size.
        Part::Revisions => PAGE_BYTES + limits.state_bytes,
        Part::Revision(_) | Part::State | Part::Restore | Part::Checkpoint => limits.state_bytes,
    };
    sending.before_load(2 * loaded).await.map_err(|unread| unread.refusal(false))
}

/// Handles a request for the history of the actor `(system, name)`: a read, or a change that adds an entry.
pub(super) async fn answer<C: Calls>(
    calls: &C,
    (system, name): (&str, &str),
    part: Part<'_>,
    head: &request::Parts,
) -> Result<Answer, Refusal> {
    let form = accept::form(&head.headers)?;
    let query = Query::read(head.uri.query())?;
    let entry = match part {
        Part::Revisions => {
            let span = Span::of(&query)?;
            let page = calls.revisions(system, name, span.interval, span.limit).await?;
            return Ok(body(form, listing(page, &span).encode(form)));
        }
        Part::Revision(number) => {
            query.knows(&[])?;
            let number = span::number("the revision in the path", number)?;
            calls.revision(system, name, number).await?.into()
        }
        Part::State => {
            query.knows(&["at"])?;
            match query.time("at")? {
                Some(at) => calls.state_at(system, name, at).await?.into(),
                None => Entry::from(calls.latest(system, name).await?).exact(true),
            }
        }
        Part::Restore => {
            query.knows(&["revision"])?;
            let number = query.get("revision").ok_or_else(|| {
                Refusal::new(StatusCode::BAD_REQUEST, "needs ?revision= with the number to restore")
            })?;
            let number = span::number("revision in the query", number)?;
            calls.restore(system, name, number).await?.into()
        }
        Part::Checkpoint => {
            query.knows(&[])?;
            calls.checkpoint(system, name).await?.into()
        }
    };
    Ok(body(form, entry.encode(form)))
}

pub(super) fn body(form: Form, bytes: bytes::Bytes) -> Answer {
    match form {
        Form::Json => of_type(JSON, bytes),
        Form::Protobuf => octets(bytes),
    }
}

/// Converts a page to the body of a response.
pub(crate) fn listing(page: Page<Revision>, span: &Span) -> Listing {
    let last = page.items.last().filter(|_| page.more).map(Position::of);
    Listing {
        revisions: page.items.into_iter().map(Entry::from).collect(),
        next: last.map(|last| span.next(last)),
    }
}
