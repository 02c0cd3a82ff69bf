//! Record: a schedule as bytes. Stores do not look inside.
//!
//! ```text
//! version 1 │ creation: epoch, number │ created at │ flags │ runs, failed, skipped, missed │ next, wake
//! when: kind, then expression and zone │ period and first time │ time
//! overlap │ catch-up: kind, window │ jitter │ end │ open runs │ past runs │ invocation
//! ```
//! Numbers are little-endian with 8 bytes; times and durations are microseconds. What may be missing comes after a byte that
//! says whether it is there. Lists and texts come after their length. A reader refuses a version that it does not know.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::invocation::Invocation;
use crate::invocation::codec::{put, put_invocation, take_invocation, take_text};
use crate::schedules::schedule::{
    CatchUp, Creation, OpenRun, Outcome, Overlap, PastRun, Schedule, ScheduleKey, Spec,
};
use crate::schedules::when::{When, Zone, micros};
use crate::schedules::{Expression, ScheduleRow};
use crate::state::Timestamp;

const VERSION: u8 = 1;
const IS_PAUSED: u8 = 1;

impl Schedule {
    /// Encodes it for a store.
    pub fn encode(&self) -> ScheduleRow {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        let Creation { epoch, number } = self.creation;
        for number in [epoch, number, self.created_at.0] {
            out.put_u64_le(number);
        }
        out.put_u8(if self.is_paused { IS_PAUSED } else { 0 });
        for number in [self.runs, self.failed, self.skipped, self.missed] {
            out.put_u64_le(number);
        }
        put_time(&mut out, self.next);
        put_time(&mut out, self.wake);
        put_spec(&mut out, &self.spec);
        put_count(&mut out, self.open.len());
        for OpenRun { number, due, since } in &self.open {
            out.put_u64_le(*number);
            out.put_u64_le(due.0);
            put_time(&mut out, *since);
        }
        put_count(&mut out, self.past.len());
        for PastRun { number, due, ended, outcome } in &self.past {
            for number in [*number, due.0, ended.0] {
                out.put_u64_le(number);
            }
            match outcome {
                Outcome::Answered => out.put_u8(0),
                Outcome::Failed(why) => {
                    out.put_u8(1);
                    put(&mut out, why.as_bytes());
                }
            }
        }
        put_invocation(&mut out, &self.spec.call);
        ScheduleRow { key: self.key.clone(), runs: self.runs, record: out.freeze() }
    }

    /// Decodes it; `None` when the bytes are damaged or of a later version.
    pub fn decode(row: ScheduleRow) -> Option<Self> {
        let ScheduleRow { key, runs: _, record } = row;
        let mut rest = record;
        let schedule = take_schedule(&mut rest, key)?;
        rest.is_empty().then_some(schedule)
    }
}

fn take_schedule(from: &mut Bytes, key: ScheduleKey) -> Option<Schedule> {
    if from.try_get_u8().ok()? != VERSION {
        return None;
    }
    let creation = Creation { epoch: take_number(from)?, number: take_number(from)? };
    let created_at = Timestamp(take_number(from)?);
    let is_paused = from.try_get_u8().ok()? & IS_PAUSED != 0;
    let (runs, failed) = (take_number(from)?, take_number(from)?);
    let (skipped, missed) = (take_number(from)?, take_number(from)?);
    let (next, wake) = (take_time(from)?, take_time(from)?);
    let mut spec = take_spec(from)?;
    let mut open = VecDeque::new();
    for _ in 0..take_number(from)? {
        let (number, due) = (take_number(from)?, Timestamp(take_number(from)?));
        open.push_back(OpenRun { number, due, since: take_time(from)? });
    }
    let mut past = VecDeque::new();
    for _ in 0..take_number(from)? {
        let (number, due) = (take_number(from)?, Timestamp(take_number(from)?));
        let ended = Timestamp(take_number(from)?);
        let outcome = match from.try_get_u8().ok()? {
            0 => Outcome::Answered,
            1 => Outcome::Failed(take_text(from)?),
            _ => return None,
        };
        past.push_back(PastRun { number, due, ended, outcome });
    }
    spec.call = take_invocation(from)?;
    Some(Schedule {
        key,
        creation,
        created_at,
        spec,
        is_paused,
        runs,
        failed,
        skipped,
        missed,
        next,
        wake,
        open,
        past,
    })
}

fn put_spec(out: &mut BytesMut, spec: &Spec) {
    match &spec.when {
        When::Cron(expression, zone) => {
            out.put_u8(0);
            put(out, expression.text().as_bytes());
            put(out, zone.name().as_bytes());
        }
        When::Every { period, first } => {
            out.put_u8(1);
            out.put_u64_le(micros(*period));
            out.put_u64_le(first.0);
        }
        When::At(at) => {
            out.put_u8(2);
            out.put_u64_le(at.0);
        }
    }
    out.put_u8(match spec.overlap {
        Overlap::Skip => 0,
        Overlap::QueueOne => 1,
        Overlap::Allow => 2,
    });
    let (kind, window) = match spec.catch_up {
        CatchUp::None => (0, Duration::ZERO),
        CatchUp::Within(window) => (1, window),
        CatchUp::All => (2, Duration::ZERO),
    };
    out.put_u8(kind);
    out.put_u64_le(micros(window));
    out.put_u64_le(micros(spec.jitter));
    put_time(out, spec.end);
}

/// All of it but the call.
fn take_spec(from: &mut Bytes) -> Option<Spec> {
    let when = match from.try_get_u8().ok()? {
        0 => {
            let (text, zone) = (take_text(from)?, take_text(from)?);
            When::Cron(Expression::parse(&text).ok()?, Zone::find(&zone).ok()?)
        }
        1 => When::Every {
            period: Duration::from_micros(take_number(from)?),
            first: Timestamp(take_number(from)?),
        },
        2 => When::At(Timestamp(take_number(from)?)),
        _ => return None,
    };
    let overlap = match from.try_get_u8().ok()? {
        0 => Overlap::Skip,
        1 => Overlap::QueueOne,
        2 => Overlap::Allow,
        _ => return None,
    };
    let (kind, window) = (from.try_get_u8().ok()?, Duration::from_micros(take_number(from)?));
    let catch_up = match kind {
        0 => CatchUp::None,
        1 => CatchUp::Within(window),
        2 => CatchUp::All,
        _ => return None,
    };
    let jitter = Duration::from_micros(take_number(from)?);
    let end = take_time(from)?;
    Some(Spec { when, overlap, catch_up, jitter, end, call: Invocation::default() })
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u64_le(count as u64);
}

fn put_time(out: &mut BytesMut, time: Option<Timestamp>) {
    out.put_u8(u8::from(time.is_some()));
    out.put_u64_le(time.unwrap_or_default().0);
}

fn take_number(from: &mut Bytes) -> Option<u64> {
    from.try_get_u64_le().ok()
}

#[expect(clippy::option_option, reason = "the bytes are damaged, or there is no time")]
fn take_time(from: &mut Bytes) -> Option<Option<Timestamp>> {
    let is_there = from.try_get_u8().ok()? != 0;
    let time = Timestamp(take_number(from)?);
    Some(is_there.then_some(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::codec::tests::invocations;

    fn schedules() -> Vec<Schedule> {
        let zone = Zone::find("Europe/Berlin").unwrap();
        let whens = [
            When::Cron(Expression::parse("*/5 0-30 2 * * MON").unwrap(), zone),
            When::Every { period: Duration::from_secs(7), first: Timestamp(9) },
            When::At(Timestamp(1 << 52)),
        ];
        let policies = [
            (Overlap::Skip, CatchUp::None),
            (Overlap::QueueOne, CatchUp::Within(Duration::from_secs(3))),
            (Overlap::Allow, CatchUp::All),
        ];
        let all = whens.into_iter().zip(policies).zip(invocations());
        all.map(|((when, (overlap, catch_up)), call)| {
            let key = ScheduleKey { system: "s".into(), name: "|@ ü\u{202e}".into() };
            let (jitter, end) = (Duration::from_millis(5), Some(Timestamp(1 << 60)));
            let spec = Spec { when, overlap, catch_up, jitter, end, call };
            let creation = Creation { epoch: 3, number: 4 };
            let mut schedule = Schedule::new(key, creation, spec, Timestamp(7));
            schedule.run_now(Timestamp(8));
            schedule.run_now(Timestamp(9));
            schedule.ended(1, Outcome::Failed("no".into()), Timestamp(10));
            schedule.run_now(Timestamp(11));
            schedule
        })
        .collect()
    }

    #[test]
    fn a_schedule_is_read_as_it_was_written_and_half_a_one_is_none() {
        for schedule in schedules() {
            let row = schedule.encode();
            for length in 0..row.record.len() {
                let record = row.record.slice(..length);
                assert_eq!(Schedule::decode(ScheduleRow { record, ..row.clone() }), None);
            }
            assert_eq!(Schedule::decode(row.clone()), Some(schedule));
            let mut later = row.record.to_vec();
            later[0] = VERSION + 1;
            assert_eq!(Schedule::decode(ScheduleRow { record: later.into(), ..row }), None);
        }
    }
}
