//! Show: schedules as text.

use std::fmt::Write;

use crate::cli::actor::ActorName;
use crate::wire::{ScheduleForm, ScheduleView};

/// What a command has done.
pub(super) fn done(what: &str, schedule: &ActorName, view: &ScheduleView) -> String {
    format!("{what} {schedule}: {}\n", state(view))
}

/// One line each.
pub(super) fn lines(views: &[ScheduleView]) -> String {
    let mut text = String::new();
    for view in views {
        let ScheduleForm { name, actor, action, .. } = &view.spec;
        line(
            &mut text,
            &format!("{name}  {} → {actor} {action}  {}", when(&view.spec), state(view)),
        );
    }
    text
}

/// All of it.
pub(super) fn whole(view: &ScheduleView) -> String {
    let mut text = lines(std::slice::from_ref(view));
    let spec = &view.spec;
    line(
        &mut text,
        &format!(
            "overlap {}, catch-up {}, jitter {} ms",
            spec.overlap, spec.catch_up, spec.jitter_ms
        ),
    );
    let ScheduleView { runs, failed, skipped, missed, .. } = view;
    line(&mut text, &format!("{runs} runs, {failed} failed, {skipped} skipped, {missed} missed"));
    for next in &view.next {
        line(&mut text, &format!("next     {next}"));
    }
    for run in &view.open {
        let how = if run.since.is_empty() { "waits for the run before" } else { "runs" };
        line(&mut text, &format!("run {:<4} {}  {how}", run.number, run.due));
    }
    for run in &view.history {
        let why = if run.error.is_empty() { String::new() } else { format!(": {}", run.error) };
        line(&mut text, &format!("run {:<4} {}  {}{why}", run.number, run.due, run.outcome));
    }
    text
}

fn when(spec: &ScheduleForm) -> String {
    if !spec.cron.is_empty() {
        format!("cron {} {}", spec.cron, spec.zone)
    } else if spec.every_ms > 0 {
        format!("every {} ms", spec.every_ms)
    } else {
        format!("at {}", spec.at)
    }
}

fn state(view: &ScheduleView) -> String {
    match view.next.first() {
        Some(next) => format!("{}, next {next}", view.state),
        None => view.state.clone(),
    }
}

/// Names may have characters that a terminal acts on.
fn line(text: &mut String, given: &str) {
    let shown = given.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    text.extend(shown);
    writeln!(text).expect("writing to a String does not fail");
}
