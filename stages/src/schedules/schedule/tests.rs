use proptest::prelude::*;

use super::*;
use crate::actor::ActorId;
use crate::schedules::{Expression, Zone};

const SECOND: u64 = 1_000_000;

fn call() -> Invocation {
    let actor = ActorId { name: "joe".into(), system: "s".into(), parent: String::new() };
    Invocation { actor, action: "add".into(), ..Invocation::default() }
}

fn every(seconds: u64) -> Spec {
    Spec {
        when: When::Every {
            period: Duration::from_secs(seconds),
            first: Timestamp(seconds * SECOND),
        },
        overlap: Overlap::Skip,
        catch_up: CatchUp::default(),
        jitter: Duration::ZERO,
        end: None,
        call: call(),
    }
}

fn schedule(spec: Spec) -> Schedule {
    let key = ScheduleKey { system: "s".into(), name: "n".into() };
    Schedule::new(key, Creation { epoch: 1, number: 0 }, spec, Timestamp(0))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

/// Looks at the time at which it wants to be looked at.
fn wake(schedule: &mut Schedule) -> Timestamp {
    let now = schedule.wake.unwrap();
    schedule.look(now);
    now
}

fn end_first(schedule: &mut Schedule, now: Timestamp) -> u64 {
    let number = schedule.open.front().unwrap().number;
    schedule.ended(number, Outcome::Answered, now);
    number
}

#[test]
fn runs_are_numbered_and_keep_their_times() {
    let mut schedule = schedule(every(10));
    for number in 1..=30 {
        assert_eq!(wake(&mut schedule), at(number * 10));
        assert_eq!(end_first(&mut schedule, at(number * 10 + 1)), number);
    }
    assert_eq!((schedule.runs, schedule.skipped, schedule.missed), (30, 0, 0));
    let kept: Vec<_> = schedule.past.iter().map(|run| run.number).collect();
    assert_eq!(kept, (11..=30).rev().collect::<Vec<_>>());
    assert_eq!(schedule.upcoming(5), [310, 320, 330, 340, 350].map(at));
}

#[test]
fn what_overlaps_is_skipped_or_waits_as_the_policy_says() {
    let run = |overlap| {
        let mut schedule = schedule(Spec { overlap, ..every(10) });
        for _ in 0..4 {
            wake(&mut schedule);
        }
        let begun = schedule.open.iter().filter(|run| run.since.is_some()).count();
        (schedule.open.len(), begun, schedule.skipped, schedule)
    };
    let (open, begun, skipped, _) = run(Overlap::Skip);
    assert_eq!((open, begun, skipped), (1, 1, 3));
    let (open, begun, skipped, mut queued) = run(Overlap::QueueOne);
    assert_eq!((open, begun, skipped), (2, 1, 2));
    let (open, begun, skipped, _) = run(Overlap::Allow);
    assert_eq!((open, begun, skipped), (4, 1, 0), "one by one, in order");
    // The one that waits goes on when the first has ended.
    assert_eq!(end_first(&mut queued, at(44)), 1);
    assert!(queued.is_running(Creation { epoch: 1, number: 0 }, 2, at(44)));
    assert!(!queued.is_running(Creation { epoch: 1, number: 1 }, 2, at(44)), "of another one");
}

#[test]
fn runs_of_a_pool_are_made_at_once() {
    let call = Invocation { pooled: true, ..call() };
    let mut schedule = schedule(Spec { overlap: Overlap::Allow, call, ..every(1) });
    for _ in 0..300 {
        if schedule.wake.is_some() {
            wake(&mut schedule);
        }
    }
    assert!(
        schedule.open.len() == MOST_OPEN && schedule.open.iter().all(|run| run.since.is_some())
    );
    // At the bound it waits for a run to end, and skips nothing.
    assert_eq!((schedule.wake, schedule.skipped), (None, 0));
    end_first(&mut schedule, at(270));
    wake(&mut schedule);
    assert_eq!((schedule.open.len(), schedule.runs), (MOST_OPEN, 257));
}

#[test]
fn what_is_too_late_is_missed_and_the_rest_is_caught_up() {
    let run = |catch_up, outage| {
        let mut schedule = schedule(Spec { catch_up, overlap: Overlap::Allow, ..every(10) });
        schedule.look(at(outage));
        (schedule.missed, schedule.runs, schedule.next)
    };
    assert_eq!(run(CatchUp::default(), 600), (53, 7, Some(at(610))));
    assert_eq!(run(CatchUp::None, 600), (58, 2, Some(at(610))));
    assert_eq!(run(CatchUp::All, 600), (0, 60, Some(at(610))));
    assert_eq!(run(CatchUp::None, 12), (0, 1, Some(at(20))));
    // A year: at once, and exactly.
    let year = 365 * 86_400;
    assert_eq!(run(CatchUp::default(), year), (year / 10 - 7, 7, Some(at(year + 10))));
}

#[test]
fn the_times_of_a_long_outage_are_gone_through_in_parts() {
    let when = When::Cron(Expression::parse("* * * * * *").unwrap(), Zone::find("UTC").unwrap());
    let mut all = schedule(Spec { when: when.clone(), catch_up: CatchUp::All, ..every(1) });
    all.look(at(2_500));
    assert_eq!((all.runs, all.skipped), (1, 999));
    assert_eq!(all.wake, Some(Timestamp(at(2_500).0 + 1)), "looked at again right away");
    while all.wake.is_some_and(|wake| wake < at(2_501)) {
        wake(&mut all);
    }
    assert_eq!((all.runs + all.skipped, all.next), (2_500, Some(at(2_501))));
    // Missed ones are counted as far as that is quick.
    let mut late = schedule(Spec { when, overlap: Overlap::Allow, ..every(1) });
    late.look(at(10_000));
    assert!((1_000..=9_939).contains(&late.missed), "{}", late.missed);
    assert_eq!((late.runs, late.next), (61, Some(at(10_001))));
}

#[test]
fn a_pause_begins_no_run_and_counts_nothing() {
    let mut schedule = schedule(Spec { overlap: Overlap::QueueOne, ..every(10) });
    wake(&mut schedule);
    wake(&mut schedule);
    schedule.pause();
    assert_eq!((schedule.wake, schedule.has_ended()), (None, false));
    end_first(&mut schedule, at(25));
    assert_eq!(schedule.open.front().unwrap().since, Some(at(25)), "what was begun goes on");
    assert_eq!(schedule.wake, None);
    schedule.look(at(99));
    schedule.resume(at(101));
    assert_eq!((schedule.next, schedule.skipped, schedule.missed), (Some(at(110)), 0, 0));
    assert!(schedule.run_now(at(102)) && !schedule.run_now(at(103)), "one runs, one waits");
}

#[test]
fn it_ends_with_its_end_or_its_only_time() {
    let mut ends = schedule(Spec { end: Some(at(20)), ..every(10) });
    for number in 1..=2 {
        wake(&mut ends);
        assert_eq!(end_first(&mut ends, at(number * 10)), number);
    }
    assert!(ends.has_ended() && ends.wake.is_none() && ends.upcoming(5).is_empty());
    let mut once = schedule(Spec { when: When::At(at(7)), ..every(10) });
    assert_eq!(once.upcoming(5), [at(7)]);
    wake(&mut once);
    assert!(once.has_ended() && once.runs == 1);
}

#[test]
fn a_jitter_delays_no_run_beyond_the_next_time_or_the_end() {
    let minutely = Expression::parse("* * * * *").unwrap();
    let cron = When::Cron(minutely, Zone::find("UTC").unwrap());
    let (hour, end) = (Duration::from_hours(1), Some(at(600)));
    // A period with such a jitter is refused, but former versions have stored some.
    for (when, seconds) in [(cron, 60), (every(10).when, 10)] {
        let mut schedule = schedule(Spec { when, jitter: hour, end, ..every(1) });
        let (mut last, mut runs) = (at(0), 0);
        while schedule.wake.is_some() {
            let due = schedule.next.unwrap();
            let now = wake(&mut schedule);
            assert!(now >= due && now.0 <= due.0 + seconds * SECOND + 1, "{due:?} at {now:?}");
            assert!(now > last && now <= at(600), "{now:?}");
            (last, runs) = (now, runs + 1);
            end_first(&mut schedule, now);
        }
        assert_eq!((runs, schedule.missed, schedule.skipped), (600 / seconds, 0, 0));
    }
}

#[test]
fn a_replaced_schedule_keeps_its_numbers_and_what_runs() {
    let mut schedule = schedule(every(10));
    wake(&mut schedule);
    schedule.replace(Spec { overlap: Overlap::Allow, ..every(10) }, at(11));
    assert_eq!((schedule.next, schedule.open.len()), (Some(at(20)), 1));
    schedule.replace(every(7), at(12));
    assert_eq!((schedule.next, schedule.runs, schedule.open.len()), (Some(at(14)), 1, 1));
}

#[test]
fn a_call_that_is_too_large_or_out_of_bounds_is_refused() {
    assert_eq!(every(1).check(), Ok(()));
    let metadata = [("k".to_owned(), "v".repeat(MOST_BYTES))].into();
    let large = Spec { call: Invocation { metadata, ..call() }, ..every(1) };
    let nobody = Spec { call: Invocation::default(), ..every(1) };
    let shaky = Spec { jitter: Duration::from_hours(2), ..every(86_400) };
    let late = Spec { jitter: Duration::from_millis(1_001), ..every(1) };
    assert_eq!(Spec { jitter: Duration::from_secs(1), ..every(1) }.check(), Ok(()));
    for wrong in [large, nobody, shaky, late, every(0), every(86_400 * 4_000)] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}

fn specs() -> impl Strategy<Value = Spec> {
    let overlap = prop_oneof![Just(Overlap::Skip), Just(Overlap::QueueOne), Just(Overlap::Allow)];
    let catch_up = prop_oneof![
        Just(CatchUp::None),
        Just(CatchUp::All),
        (0..200_u64).prop_map(|s| CatchUp::Within(Duration::from_secs(s))),
    ];
    let jitter = (0..15_u64).prop_map(Duration::from_secs);
    (overlap, catch_up, jitter, 1..20_u64, any::<bool>()).prop_map(
        |(overlap, catch_up, jitter, period, pooled)| {
            let call = Invocation { pooled, ..call() };
            Spec { overlap, catch_up, jitter, call, ..every(period) }
        },
    )
}

proptest! {
    /// Whatever happens: each time is run, skipped or missed, once and in order; none is lost.
    #[test]
    fn each_time_comes_to_one_run_or_is_counted(
        spec in specs(),
        steps in proptest::collection::vec((0..40_u64, 0..4_u8), 1..120),
    ) {
        let period = match spec.when { When::Every { period, .. } => micros(period), _ => 0 };
        let mut schedule = schedule(spec);
        let (mut now, mut ended) = (Timestamp(0), 0);
        for (seconds, step) in steps {
            now = Timestamp(now.0 + seconds * SECOND);
            if step == 0 && !schedule.open.is_empty() {
                end_first(&mut schedule, now);
                ended += 1;
            }
            let mut looks = 0;
            while let Some(wake) = schedule.wake.filter(|wake| *wake <= now) {
                schedule.look(now);
                looks += 1;
                prop_assert!(looks < 3, "it comes to rest");
                prop_assert!(schedule.wake.is_none_or(|next| next > wake), "a later time each time");
            }
            let open = &schedule.open;
            prop_assert_eq!(schedule.runs, ended + open.len() as u64);
            prop_assert!(open.len() <= schedule.spec.overlap.most());
            prop_assert!(open.iter().map(|run| run.number).is_sorted());
            prop_assert!(open.front().is_none_or(|run| run.since.is_some()), "the first one runs");
            let before_next = schedule.next.unwrap().0 / period - 1;
            prop_assert_eq!(schedule.runs + schedule.skipped + schedule.missed, before_next);
            if schedule.spec.catch_up == CatchUp::All {
                prop_assert_eq!(schedule.missed, 0);
            }
            if schedule.spec.overlap == Overlap::Allow {
                prop_assert_eq!(schedule.skipped, 0);
            }
        }
    }
}
