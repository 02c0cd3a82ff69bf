//! Form: what a schedule is to do, as it is sent and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_stages::actor::ActorId;
use tidegate_stages::invocation::{Invocation, Metadata, Payload};
use tidegate_stages::schedules::{CatchUp, Expression, Overlap, Schedule, Spec, When, Zone};
use tidegate_stages::state::{Any, Timestamp};

use crate::moment;
use crate::proto::google::protobuf as well_known;
use crate::proto::tidegate::api::v1 as proto;
use crate::wire::json::object;
use crate::wire::{Blob, Malformed};

/// What a schedule is to do; empty texts and zeros stand for what is not given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleForm {
    /// Its name.
    pub name: String,
    /// Its actor.
    pub actor: String,
    /// The action.
    pub action: String,
    /// The input of the action.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub payload: Option<Blob>,
    /// Metadata of the call.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Whether any member of a pool may serve it.
    pub pooled: bool,
    /// The definition from which the actor is spawned if it is not there.
    pub parent: String,
    /// An expression.
    pub cron: String,
    /// Its time zone.
    pub zone: String,
    /// A period.
    pub every_ms: u64,
    /// Its first time.
    pub first: String,
    /// A single time.
    pub at: String,
    /// What happens while the run before has not ended.
    pub overlap: String,
    /// How late a run may be.
    pub catch_up: String,
    /// Each run is later by up to so much.
    pub jitter_ms: u64,
    /// No run is later than this.
    pub end: String,
    /// Whether it begins no run.
    pub paused: bool,
}

impl ScheduleForm {
    pub(super) fn spec(self, system: &str, now: Timestamp) -> Result<Spec, Malformed> {
        let when = self.when(now)?;
        let overlap = match &self.overlap[..] {
            "" | "skip" => Overlap::Skip,
            "queue_one" => Overlap::QueueOne,
            "allow" => Overlap::Allow,
            _ => return Err(Malformed::wrong("overlap", "must be skip, queue_one or allow")),
        };
        let catch_up = match &self.catch_up[..] {
            "" if matches!(when, When::At(_)) => CatchUp::All,
            "" => CatchUp::default(),
            "none" => CatchUp::None,
            "all" => CatchUp::All,
            text => {
                let wrong = |_| Malformed::wrong("catch_up", "must be none, all or milliseconds");
                CatchUp::Within(Duration::from_millis(text.parse().map_err(wrong)?))
            }
        };
        let end = time("end", &self.end)?;
        let actor = ActorId { name: self.actor, system: system.into(), parent: String::new() };
        let payload = self.payload.map_or(Payload::Unset, |Blob { type_url, value }| {
            Payload::Value(Any { type_url, value })
        });
        let call = Invocation {
            actor,
            action: self.action,
            payload,
            metadata: self.metadata,
            pooled: self.pooled,
            register_ref: self.parent,
            ..Invocation::default()
        };
        let jitter = Duration::from_millis(self.jitter_ms);
        Ok(Spec { when, overlap, catch_up, jitter, end, call })
    }

    fn when(&self, now: Timestamp) -> Result<When, Malformed> {
        let kinds = [!self.cron.is_empty(), self.every_ms > 0, !self.at.is_empty()];
        if kinds.iter().filter(|is_given| **is_given).count() != 1 {
            return Err(Malformed::wrong("the schedule", "must have one of cron, every_ms and at"));
        }
        if self.cron.is_empty() && !self.zone.is_empty() {
            return Err(Malformed::wrong("zone", "is for cron only: a period is elapsed time"));
        }
        if self.every_ms == 0 && !self.first.is_empty() {
            return Err(Malformed::wrong("first", "is for every_ms only"));
        }
        if !self.cron.is_empty() {
            let expression = Expression::parse(&self.cron)
                .map_err(|error| Malformed::wrong("cron", error.to_string()))?;
            let name = if self.zone.is_empty() { "UTC" } else { &self.zone };
            let zone = Zone::find(name).map_err(|error| Malformed::wrong("zone", error))?;
            return Ok(When::Cron(expression, zone));
        }
        if let Some(at) = time("at", &self.at)? {
            return Ok(When::At(at));
        }
        let after = Timestamp(now.0.saturating_add(self.every_ms.saturating_mul(1000)));
        let first = time("first", &self.first)?.unwrap_or(after);
        Ok(When::Every { period: Duration::from_millis(self.every_ms), first })
    }

    pub(super) fn of(schedule: &Schedule) -> Self {
        let Spec { when, overlap, catch_up, jitter, end, call } = schedule.spec.clone();
        let mut form = Self {
            name: schedule.key.name.clone(),
            actor: call.actor.name,
            action: call.action,
            payload: match call.payload {
                Payload::Value(Any { type_url, value }) => Some(Blob { type_url, value }),
                Payload::Unset | Payload::Noop => None,
            },
            metadata: call.metadata,
            pooled: call.pooled,
            parent: call.register_ref,
            overlap: match overlap {
                Overlap::Skip => "skip",
                Overlap::QueueOne => "queue_one",
                Overlap::Allow => "allow",
            }
            .into(),
            catch_up: match catch_up {
                CatchUp::None => "none".into(),
                CatchUp::All => "all".into(),
                CatchUp::Within(window) => window.as_millis().to_string(),
            },
            jitter_ms: millis(jitter),
            end: end.map(moment::show).unwrap_or_default(),
            paused: schedule.is_paused,
            ..Self::default()
        };
        match when {
            When::Cron(expression, zone) => {
                form.cron = expression.text().into();
                form.zone = zone.name().into();
            }
            When::Every { period, first } => {
                form.every_ms = millis(period);
                form.first = moment::show(first);
            }
            When::At(at) => form.at = moment::show(at),
        }
        form
    }
}

impl From<proto::ScheduleSpec> for ScheduleForm {
    fn from(spec: proto::ScheduleSpec) -> Self {
        let payload = spec.payload;
        Self {
            name: spec.name,
            actor: spec.actor,
            action: spec.action,
            payload: payload.map(|any| Blob { type_url: any.type_url, value: any.value }),
            metadata: spec.metadata,
            pooled: spec.pooled,
            parent: spec.parent,
            cron: spec.cron,
            zone: spec.zone,
            every_ms: spec.every_ms,
            first: spec.first,
            at: spec.at,
            overlap: spec.overlap,
            catch_up: spec.catch_up,
            jitter_ms: spec.jitter_ms,
            end: spec.end,
            paused: spec.paused,
        }
    }
}

impl From<ScheduleForm> for proto::ScheduleSpec {
    fn from(form: ScheduleForm) -> Self {
        let payload = form.payload;
        Self {
            name: form.name,
            actor: form.actor,
            action: form.action,
            payload: payload.map(|Blob { type_url, value }| well_known::Any { type_url, value }),
            metadata: form.metadata,
            pooled: form.pooled,
            parent: form.parent,
            cron: form.cron,
            zone: form.zone,
            every_ms: form.every_ms,
            first: form.first,
            at: form.at,
            overlap: form.overlap,
            catch_up: form.catch_up,
            jitter_ms: form.jitter_ms,
            end: form.end,
            paused: form.paused,
        }
    }
}

fn time(field: &str, given: &str) -> Result<Option<Timestamp>, Malformed> {
    if given.is_empty() {
        return Ok(None);
    }
    moment::parse(given).map(Some).map_err(|why| Malformed::wrong(field, why))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
