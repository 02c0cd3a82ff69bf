//! Schedule: decodes what a schedule is to do, and encodes what became of it, as JSON and as protobuf.

mod form;

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use tidegate_stages::history::Page;
use tidegate_stages::schedules::{OpenRun, Outcome, PastRun, Schedule, Spec};
use tidegate_stages::state::Timestamp;

use super::history::json;
use super::reply::ok;
use super::{Form, Malformed};
use crate::moment;
use crate::proto::tidegate::api::v1 as proto;
pub use form::ScheduleForm;

/// Times that are shown of those to come.
const NEXT: usize = 5;

/// A schedule, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// What it is to do.
    pub spec: ScheduleForm,
    /// `active`, `paused` or `ended`.
    pub state: String,
    /// When it was created.
    pub created_at: String,
    /// Runs that were begun.
    pub runs: u64,
    /// Of these, so many failed.
    pub failed: u64,
    /// Times that came while a run had not ended.
    pub skipped: u64,
    /// Times that were too long ago.
    pub missed: u64,
    /// The next times.
    pub next: Vec<String>,
    /// Runs that have not ended.
    pub open: Vec<OpenRunView>,
    /// Runs that have ended, newest first.
    pub history: Vec<PastRunView>,
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRunView {
    /// Its number.
    pub number: u64,
    /// The time for which it is meant.
    pub due: String,
    /// Since when it may run; empty: it waits for the run before.
    pub since: String,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRunView {
    /// Its number.
    pub number: u64,
    /// The time for which it was meant.
    pub due: String,
    /// When it ended.
    pub ended: String,
    /// `answered` or `failed`.
    pub outcome: String,
    /// Why it failed.
    pub error: String,
}

/// A page of schedules, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleListing {
    /// The schedules.
    pub schedules: Vec<ScheduleView>,
    /// The parameter `after` for the next page.
    pub next: Option<String>,
}

/// A schedule that is to be created.
#[derive(Debug)]
pub struct NewSchedule {
    /// Its name.
    pub name: String,
    /// What it is to do.
    pub spec: Spec,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Whether its first time was given; else it is a period from now.
    pub has_first: bool,
}

/// Decodes a body; `named` is the name in the path, `now` the time.
///
/// # Errors
/// When it cannot be decoded, or a field is wrong.
pub fn new_schedule(
    body: &Bytes,
    form: Form,
    (system, named): (&str, Option<&str>),
    now: Timestamp,
) -> Result<NewSchedule, Malformed> {
    let mut given: ScheduleForm = match form {
        Form::Json => super::json::read(body, "ScheduleSpec")?,
        Form::Protobuf => proto::ScheduleSpec::decode(body.clone())
            .map_err(|error| Malformed::undecodable("ScheduleSpec", &error))?
            .into(),
    };
    if let Some(named) = named {
        if !given.name.is_empty() && given.name != named {
            return Err(Malformed::wrong("name", "is another one than in the path"));
        }
        named.clone_into(&mut given.name);
    }
    let (name, is_paused) = (std::mem::take(&mut given.name), given.paused);
    let has_first = !given.first.is_empty();
    Ok(NewSchedule { name, spec: given.spec(system, now)?, is_paused, has_first })
}

/// Encodes a schedule.
pub fn schedule(schedule: &Schedule, form: Form) -> Bytes {
    let view = ScheduleView::of(schedule);
    match form {
        Form::Json => json(&view),
        Form::Protobuf => message(view).encode_to_vec().into(),
    }
}

/// Encodes a page of schedules.
pub fn schedules(page: &Page<Schedule>, form: Form) -> Bytes {
    let next = page.items.last().filter(|_| page.more).map(|last| last.key.name.clone());
    let schedules: Vec<_> = page.items.iter().map(ScheduleView::of).collect();
    match form {
        Form::Json => json(&ScheduleListing { schedules, next }),
        Form::Protobuf => proto::Schedules {
            status: Some(ok()),
            schedules: schedules.into_iter().map(message).collect(),
            next: next.unwrap_or_default(),
        }
        .encode_to_vec()
        .into(),
    }
}

impl ScheduleView {
    fn of(schedule: &Schedule) -> Self {
        let state = if schedule.is_paused {
            "paused"
        } else if schedule.has_ended() {
            "ended"
        } else {
            "active"
        };
        let open = |OpenRun { number, due, since }: &OpenRun| OpenRunView {
            number: *number,
            due: moment::show(*due),
            since: since.map(moment::show).unwrap_or_default(),
        };
        let past = |PastRun { number, due, ended, outcome }: &PastRun| {
            let (outcome, error) = match outcome {
                Outcome::Answered => ("answered".to_owned(), String::new()),
                Outcome::Failed(why) => ("failed".to_owned(), why.clone()),
            };
            let (due, ended) = (moment::show(*due), moment::show(*ended));
            PastRunView { number: *number, due, ended, outcome, error }
        };
        Self {
            spec: ScheduleForm::of(schedule),
            state: state.into(),
            created_at: moment::show(schedule.created_at),
            runs: schedule.runs,
            failed: schedule.failed,
            skipped: schedule.skipped,
            missed: schedule.missed,
            next: schedule.upcoming(NEXT).into_iter().map(moment::show).collect(),
            open: schedule.open.iter().map(open).collect(),
            history: schedule.past.iter().map(past).collect(),
        }
    }
}

fn message(view: ScheduleView) -> proto::Schedule {
    let open = view.open.into_iter();
    let past = view.history.into_iter();
    proto::Schedule {
        status: Some(ok()),
        spec: Some(view.spec.into()),
        state: view.state,
        created_at: view.created_at,
        runs: view.runs,
        failed: view.failed,
        skipped: view.skipped,
        missed: view.missed,
        next: view.next,
        open: open
            .map(|OpenRunView { number, due, since }| proto::OpenRun { number, due, since })
            .collect(),
        history: past
            .map(|PastRunView { number, due, ended, outcome, error }| proto::PastRun {
                number,
                due,
                ended,
                outcome,
                error,
            })
            .collect(),
    }
}
