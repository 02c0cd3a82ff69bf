//! Times: what must hold for calls at later times, and for the ticks of timers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::actors::{LATER, PERIOD, SOURCE, TICKING, asks_for_later};
use crate::call::{CallId, Kind};
use crate::facts::Known;

/// How late a call is at most when nothing fails: by its turn, and by what comes before it.
const LATEST: Duration = Duration::from_secs(1);
/// What the network may take from the time between two ticks.
const SPREAD: Duration = Duration::from_millis(60);

/// What is wrong with them.
pub(super) fn complaints(known: &Known, found: &mut Vec<String>) {
    of_delayed_effects(known, found);
    for (id, due) in &known.due {
        let Some(facts) = known.calls.get(id) else { continue };
        let Some(ran_at) = facts.ran_at else { continue };
        if ran_at < *due {
            found.push(format!("{id:?} ran {:?} before its time", due.saturating_sub(ran_at)));
        }
        if known.nothing_fails && (ran_at > *due + LATEST || facts.executions > 1) {
            let late = ran_at.saturating_sub(*due);
            found.push(format!("{id:?} ran {} times, {late:?} late", facts.executions));
        }
    }
    of_ticks(known, found);
}

/// Each effect for a later time of a state that is kept runs, and no other does; once when nothing failed.
fn of_delayed_effects(known: &Known, found: &mut Vec<String>) {
    let Some(state) = known.states.get(LATER) else { return };
    let mut counts = BTreeMap::<CallId, u32>::new();
    for id in state.iter().filter(|id| id.kind() == Kind::Delayed) {
        *counts.entry(id.cause()).or_default() += 1;
    }
    let sources = known.states.iter().filter(|(name, _)| name.starts_with(SOURCE));
    for id in sources.flat_map(|(_, state)| state).filter(|id| asks_for_later(**id)) {
        match counts.remove(id).unwrap_or(0) {
            0 => found.push(format!("{LATER} got nothing of {id:?}")),
            1 => {}
            count if known.nothing_fails => {
                found.push(format!("{LATER} counted {count} times what {id:?} asked for"));
            }
            _ => {}
        }
    }
    if !counts.is_empty() {
        found.push(format!("{LATER} counted what no state asked for: {counts:?}"));
    }
}

/// A timer never ticks faster than its period, but for one tick that catches up; and at that rate when nothing fails.
fn of_ticks(known: &Known, found: &mut Vec<String>) {
    let ticks: Vec<_> = known.ticks().collect();
    let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else { return };
    let periods = last.saturating_sub(*first).as_millis() / PERIOD.as_millis();
    let most = periods + 2 * u128::from(known.lives());
    if ticks.len() as u128 > most {
        found.push(format!("{TICKING} ticked {} times in {periods} periods", ticks.len()));
    }
    if known.nothing_fails {
        let is_off = |pair: &[Duration]| pair[1].saturating_sub(pair[0]).abs_diff(PERIOD) > SPREAD;
        if let Some(pair) = ticks.windows(2).find(|pair| is_off(pair)) {
            found.push(format!("{TICKING} ticked at {pair:?} though nothing failed"));
        }
    }
}
