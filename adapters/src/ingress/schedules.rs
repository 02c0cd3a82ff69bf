//! Schedules: creates, changes and shows schedules over HTTP.

use std::future::Future;

use bytes::Bytes;
use http::{Method, request};
use tidegate_stages::identity::Identity;
use tidegate_stages::mesh::{ScheduleAsk, ScheduleTold};
use tidegate_stages::ports::Clock;
use tidegate_stages::schedules::ScheduleKey;

use super::body::BodyError;
use super::history::body;
use super::http::{Answer, JSON, Refusal, of_type};
use super::query::Query;
use super::route::{Change, Which};
use super::{Calls, accept};
use crate::clock::SystemClock;
use crate::wire::{self, Form, NewSchedule};

/// What the audit says of a request that was carried out, in an answer's extensions, where its path does not say it.
#[derive(Debug, Clone)]
pub(super) struct Outcome(pub(super) String);

/// Handles a request for the schedules of a system. `read` reads its body.
pub(super) async fn answer<C: Calls>(
    calls: &C,
    client: Identity,
    (system, which): (&str, Which<'_>),
    head: &request::Parts,
    read: impl Future<Output = Result<Bytes, BodyError>>,
) -> Result<Answer, Refusal> {
    let form = accept::form(&head.headers)?;
    let query = Query::read(head.uri.query())?;
    query.knows(if which == Which::All { &["after", "limit"] } else { &[] })?;
    let key = |name: &str| ScheduleKey { system: system.into(), name: name.into() };
    let is_new = which == Which::All && head.method == Method::POST;
    let ask = match which {
        Which::All if is_new => put(&read.await?, head, (system, None))?,
        Which::All => {
            let limit = query.limit()?;
            let after = query.get("after").unwrap_or_default().to_owned();
            ScheduleAsk::List { system: system.into(), after, limit }
        }
        Which::One(name) => match head.method {
            Method::PUT => put(&read.await?, head, (system, Some(&name)))?,
            Method::DELETE => ScheduleAsk::Delete(key(&name)),
            _ => ScheduleAsk::Get(key(&name)),
        },
        Which::Change(name, Change::Pause) => ScheduleAsk::Pause(key(&name)),
        Which::Change(name, Change::Resume) => ScheduleAsk::Resume(key(&name)),
        Which::Change(name, Change::Run) => ScheduleAsk::Run(key(&name)),
    };
    Ok(match calls.ask_schedule(client, ask).await? {
        ScheduleTold::One(schedule) => {
            let mut answer = body(form, wire::schedule(&schedule, form));
            if is_new {
                let outcome = Outcome(format!("created {}", schedule.key.name));
                answer.extensions_mut().insert(outcome);
            }
            answer
        }
        ScheduleTold::Many(page) => body(form, wire::schedules(&page, form)),
        ScheduleTold::Done if form == Form::Json => of_type(JSON, Bytes::from_static(b"{}\n")),
        ScheduleTold::Done => body(form, wire::accepted()),
    })
}

fn put(
    given: &Bytes,
    head: &request::Parts,
    names: (&str, Option<&str>),
) -> Result<ScheduleAsk, Refusal> {
    let form = accept::content_form(&head.headers).unwrap_or(Form::Protobuf);
    let new = wire::new_schedule(given, form, names, SystemClock.now())?;
    let NewSchedule { name, spec, is_paused, has_first } = new;
    let (replaces, keeps_first) = (head.method == Method::PUT, !has_first);
    Ok(ScheduleAsk::Put { name, spec: Box::new(spec), is_paused, replaces, keeps_first })
}
