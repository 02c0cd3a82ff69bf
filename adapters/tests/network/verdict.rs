//! Verdict: what must hold for the facts, whatever the network did.

mod messages;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::actors::{SOURCE, TARGET};
use crate::call::{CallId, Kind};
use crate::facts::{CallFacts, Facts, Known, Outcome, Release};
use crate::proxy::DEADLINES;

/// The longest wait for an answer: every phase of a call to its end, and what the clients' own links take from them.
fn answered_within(on_the_way: Duration) -> Duration {
    DEADLINES.start + DEADLINES.host + DEADLINES.commit + on_the_way
}

/// What is wrong. `on_the_way` is the longest time that links to clients may have held a call and its answer.
pub(crate) fn complaints(facts: &Facts, on_the_way: Duration) -> Vec<String> {
    facts.read(|known| {
        let mut found = known.complaints.clone();
        let of_clients = known.calls.iter().filter(|(id, _)| id.kind() == Kind::Call);
        for (id, facts) in of_clients {
            let wrong = of_call(facts, answered_within(on_the_way));
            found.extend(wrong.into_iter().map(|wrong| format!("{id:?} {wrong}: {facts:?}")));
        }
        order_of_executions(known, &mut found);
        for (actor, state) in &known.states {
            of_state(known, actor, state, &mut found);
        }
        of_effects(known, &mut found);
        messages::complaints(known, &mut found);
        times::complaints(known, &mut found);
        found
    })
}

/// What is wrong with one call.
fn of_call(facts: &CallFacts, limit: Duration) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut must = |holds: bool, otherwise| {
        if !holds {
            found.push(otherwise);
        }
    };
    must(facts.outcomes.len() == 1, "did not end once for its client (I2)");
    must(facts.admissions.len() <= 1, "came in more than once");
    must(
        facts.releases.len() == facts.admissions.len(),
        "was not released once by the ingress (I2)",
    );
    must(facts.executions <= 1 || facts.kind == Kind::Due, "ran more than once");
    must(facts.took <= limit, "was answered after its deadline");
    let dropped = facts.releases.contains(&Release::Dropped);
    must(facts.abandoned || !dropped, "was dropped though its client waited (I2)");
    match facts.outcomes.first() {
        Some(Outcome::Acknowledged(_)) => {
            must(facts.executions == 1, "was acknowledged without an execution");
        }
        Some(Outcome::Accepted) => must(facts.executions > 0, "was kept for later and never ran"),
        Some(Outcome::Refused(status, text)) => {
            must(matches!(status, 502..=504), "was refused with a status that nothing calls for");
            must(
                facts.executions == 0 || !certainly_not_run(facts.kind, *status, text),
                "ran though its error says that it did not",
            );
        }
        Some(Outcome::Published(_) | Outcome::Lost | Outcome::Abandoned) | None => {}
    }
    found
}

/// Whether an error promises that the action did not run, and will not.
fn certainly_not_run(kind: Kind, status: u16, text: &str) -> bool {
    let is_in_doubt = kind == Kind::Due && text.contains("is unknown");
    let may_have_run = ["has run", "have run"].iter().any(|end| text.ends_with(end));
    (status == 503 && !may_have_run && !is_in_doubt)
        || text.starts_with("not started")
        || text.starts_with("cannot connect")
}

fn kind_of(known: &Known, id: CallId) -> Kind {
    known.calls.get(&id).map_or(Kind::Call, |facts| facts.kind)
}

/// Each effect of a source's final state counts once at the target, in the order of the source, and no other does.
fn of_effects(known: &Known, found: &mut Vec<String>) {
    let all = known.states.get(TARGET).map_or(&[][..], |state| state);
    let all = all.iter().filter(|id| id.kind() == Kind::Effect);
    for (source, state) in known.states.iter().filter(|(name, _)| name.starts_with(SOURCE)) {
        let is_of =
            |id: &&CallId| known.calls.get(&id.cause()).is_some_and(|facts| facts.actor == *source);
        let counted: Vec<_> = all.clone().filter(is_of).map(|id| id.cause()).collect();
        if counted != *state {
            found.push(format!(
                "{TARGET} counted {counted:?} of {source}, which tells of {state:?}"
            ));
        }
    }
}

/// Each start of the proxy hands an actor's calls over in the order in which it let them in (I3).
fn order_of_executions(known: &Known, found: &mut Vec<String>) {
    let mut newest = BTreeMap::new();
    for id in &known.executed {
        let facts = &known.calls[id];
        if facts.kind != Kind::Call {
            continue;
        }
        let Some(&(life, number)) = facts.admissions.first() else {
            found.push(format!("{id:?} ran and never came in"));
            continue;
        };
        if let Some((former, former_id)) = newest.insert((&facts.actor, life), (number, id))
            && former >= number
        {
            found.push(format!("{}: {id:?} ran after {former_id:?} (I3)", facts.actor));
        }
    }
}

/// An actor's state tells of each acknowledged call, in its place, and of nothing that did not happen.
fn of_state(known: &Known, actor: &str, state: &[CallId], found: &mut Vec<String>) {
    let may_repeat = |id: &&CallId| {
        matches!(kind_of(known, **id), Kind::Due | Kind::Delayed) && !known.nothing_fails
    };
    let once: Vec<_> = state.iter().filter(|id| !may_repeat(id)).collect();
    let distinct: BTreeSet<_> = once.iter().collect();
    if distinct.len() != once.len() {
        found.push(format!("{actor}: its state tells of a call twice: {state:?}"));
    }
    for id in state {
        if !known.calls.get(id).is_some_and(|facts| facts.executions > 0 && facts.actor == actor) {
            found.push(format!("{actor}: its state tells of {id:?}, which did not run"));
        }
    }
    for (id, facts) in known.calls.iter().filter(|(_, facts)| facts.actor == actor) {
        if facts.outcomes.contains(&Outcome::Accepted) && !state.contains(id) {
            found.push(format!("{actor}: {id:?} was kept for later and is not in its state"));
        }
        if let Some(place) = facts.acknowledged()
            && state.get(place - 1) != Some(id)
        {
            found.push(format!("{actor}: {id:?} was acknowledged as {place} of {state:?}"));
        }
    }
}
