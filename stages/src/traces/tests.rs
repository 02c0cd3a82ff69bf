//! What is exported of calls, and what is not.

use parking_lot::Mutex;
use tokio::time::Instant;

use super::spans::Ended;
use super::*;
use crate::actor::ActorRef;
use crate::error::Error;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const TRACE_ID: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const SPAN_ID: u64 = 0xb7ad_6b71_6920_3331;
const RULES: TraceRules = TraceRules {
    parent_based: true,
    ratio: 0.0,
    failed: true,
    slow: Some(Duration::from_secs(1)),
    overrides_parent: false,
};

/// Counts ids up, and keeps what it is given.
#[derive(Debug, Default)]
struct Kept(Mutex<(u128, Vec<TracedCall>)>);

impl TraceSink for Kept {
    fn draw(&self) -> u128 {
        let mut kept = self.0.lock();
        kept.0 += 1;
        kept.0
    }

    fn take(&self, call: TracedCall) {
        self.0.lock().1.push(call);
    }
}

fn tracer(rules: TraceRules) -> (Tracer, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    (Tracer::new(rules, kept.clone()), kept)
}

/// Ends a call of `joe` that came with this context.
fn end(trace: &Trace, context: &str, took: Duration, error: Option<&Error>) {
    let last = (ActorRef::new("s", "joe"), "add".to_owned());
    let ended = || Ended {
        began: Instant::now(),
        context,
        is_async: false,
        is_unheard: false,
        from: None,
        passed: Vec::new(),
        last,
    };
    trace.end(took, error, false, ended);
}

/// What is exported of a call that ends at once, slowly, and with an error.
fn exported(rules: TraceRules, given: &str) -> [usize; 3] {
    let slow = Duration::from_secs(1);
    [(Duration::ZERO, None), (slow, None), (Duration::ZERO, Some(Error::Draining))].map(
        |(took, error)| {
            let (tracer, kept) = tracer(rules);
            let mut context = given.to_owned();
            tracer.begin(&mut context);
            let trace = tracer.trace(&context, CallOrigin::Client, false);
            end(&trace, &context, took, error.as_ref());
            kept.0.lock().1.len()
        },
    )
}

#[tokio::test]
async fn who_decides_is_the_caller_and_what_failed_or_was_slow_is_kept() {
    let silent = TraceRules { failed: false, slow: None, ..RULES };
    for (rules, given, expected) in [
        (RULES, SAMPLED, [1, 1, 1]),
        (RULES, UNSAMPLED, [0, 0, 0]),
        (RULES, "", [0, 1, 1]),
        (silent, "", [0, 0, 0]),
        (TraceRules { ratio: 1.0, ..silent }, "", [1, 1, 1]),
        (TraceRules { overrides_parent: true, ..RULES }, UNSAMPLED, [0, 1, 1]),
        (TraceRules { parent_based: false, ratio: 1.0, ..silent }, UNSAMPLED, [1, 1, 1]),
        (TraceRules { parent_based: false, ..silent }, SAMPLED, [0, 0, 0]),
    ] {
        assert_eq!(exported(rules, given), expected, "{rules:?} {given}");
    }
}

#[tokio::test]
async fn a_ratio_is_about_that_part_of_the_calls() {
    let (tracer, _) = tracer(TraceRules { ratio: 0.25, ..RULES });
    let sampled = (0..4_000).filter(|_| tracer.begin(&mut String::new())).count();
    assert!((800..1_200).contains(&sampled), "{sampled}");
    let rules = TraceRules { ratio: 0.25, ..RULES };
    let hits = (0..4_000_u128).filter(|step| rules.hits(step * (u128::from(u64::MAX) / 4_000)));
    assert!((990..1_010).contains(&hits.count()));
}

#[tokio::test]
async fn a_caller_that_waits_is_the_parent_and_one_that_does_not_is_linked() {
    for (is_linked, ids) in
        [(false, (TRACE_ID, Some(SPAN_ID), None)), (true, (2, None, Some((TRACE_ID, SPAN_ID))))]
    {
        let (tracer, kept) = tracer(RULES);
        let context = format!("{SAMPLED}\na=1");
        let trace = tracer.trace(&context, CallOrigin::Effect, is_linked);
        end(&trace, &context, Duration::ZERO, None);
        let call = kept.0.lock().1.pop().unwrap();
        assert_eq!((call.trace_id, call.parent, call.link), ids);
        assert_eq!((call.span_id, &*call.state, call.is_sampled), (1, "a=1", true));
        let host = trace.context(0, Stage::Invoke, &context).unwrap();
        let span = span_id(1, 0, Stage::Invoke);
        assert_eq!(host, format!("00-{:032x}-{span:016x}-01\na=1", call.trace_id));
    }
    let (tracer, _) = tracer(RULES);
    let trace = tracer.trace(UNSAMPLED, CallOrigin::Client, false);
    assert_eq!(trace.context(0, Stage::Invoke, UNSAMPLED), None, "the caller's stays");
}

#[tokio::test]
async fn a_call_without_a_caller_s_trace_begins_one() {
    let (tracer, kept) = tracer(TraceRules { ratio: 1.0, ..RULES });
    let mut context = String::new();
    assert!(tracer.begin(&mut context));
    for is_linked in [false, true] {
        let trace = tracer.trace(&context, CallOrigin::Client, is_linked);
        end(&trace, &context, Duration::ZERO, None);
        let call = kept.0.lock().1.pop().unwrap();
        assert_eq!((call.trace_id, call.parent, call.link), (1, None, None));
    }
}

#[tokio::test]
async fn stages_follow_each_other_with_queue_and_service_apart() {
    let (tracer, kept) = tracer(RULES);
    let trace = tracer.trace(SAMPLED, CallOrigin::Client, false);
    let ms = Duration::from_millis;
    let marks = [
        (Mark::Placed, 1),
        (Mark::Granted, 3),
        (Mark::Activated, 4),
        (Mark::Called, 6),
        (Mark::Answered, 16),
        (Mark::Planned, 17),
        (Mark::Writing, 20),
    ];
    trace.waits_for(FirstWait::Worker);
    for (mark, at) in marks {
        trace.mark(mark, ms(at));
    }
    end(&trace, SAMPLED, ms(30), None);
    let call = kept.0.lock().1.pop().unwrap();
    let stages = &call.hops[0].stages;
    let seen: Vec<_> =
        stages.iter().map(|stage| (stage.name, stage.starts, stage.queued, stage.served)).collect();
    let expected = [
        ("caller", ms(0), ms(0), ms(1)),
        ("lookup", ms(1), ms(2), ms(1)),
        ("invoke", ms(4), ms(2), ms(10)),
        ("side_effects", ms(16), ms(0), ms(1)),
        ("checkpoint", ms(17), ms(3), ms(10)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(stages[1].blocked_on, [("worker", ms(2))]);
    assert!(stages.iter().all(|stage| !stage.is_failed));
}

#[tokio::test]
async fn a_call_that_fails_ends_in_the_stage_where_it_was() {
    let (tracer, kept) = tracer(RULES);
    let trace = tracer.trace(SAMPLED, CallOrigin::Client, false);
    let ms = Duration::from_millis;
    trace.mark(Mark::Placed, ms(1));
    trace.mark(Mark::Granted, ms(2));
    trace.mark(Mark::Activated, ms(3));
    trace.mark(Mark::Called, ms(4));
    trace.parked(RetryOf::Host, ms(5));
    end(&trace, SAMPLED, ms(50), Some(&Error::Cancelled));
    let call = kept.0.lock().1.pop().unwrap();
    let names: Vec<_> =
        call.hops[0].stages.iter().map(|stage| (stage.name, stage.is_failed)).collect();
    assert_eq!(names, [("caller", false), ("lookup", true)]);
    let lookup = &call.hops[0].stages[1];
    assert_eq!(lookup.queued, ms(49), "it was never worked on to an end");
    assert_eq!(lookup.blocked_on, [("retry_host", ms(45))]);
    assert!(matches!(call.error, Some(Error::Cancelled)));
}

#[tokio::test]
async fn what_is_only_kept_changes_no_context_and_is_never_sampled() {
    for given in ["", SAMPLED, UNSAMPLED] {
        let kept = Arc::new(Kept::default());
        let tracer = Tracer::keeping(TraceRules { ratio: 1.0, ..RULES }, kept.clone());
        let mut context = given.to_owned();
        assert!(!tracer.begin(&mut context), "{given}");
        assert_eq!(context, given);
        let trace = tracer.trace(&context, CallOrigin::Client, false);
        assert_eq!(trace.context(0, Stage::Invoke, &context), None, "the caller's stays");
        end(&trace, &context, Duration::ZERO, None);
        assert!(kept.0.lock().1.is_empty(), "it was neither slow nor did it fail");
        end(&trace, &context, Duration::ZERO, Some(&Error::Draining));
        assert!(kept.0.lock().1.iter().all(|call| !call.is_sampled));
        assert_eq!(kept.0.lock().1.len(), 1, "{given}");
    }
}
