//! Verdict: what must hold for the facts, whatever the network did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::call::CallId;
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
        for (id, facts) in &known.calls {
            let wrong = of_call(facts, answered_within(on_the_way));
            found.extend(wrong.into_iter().map(|wrong| format!("{id:?} {wrong}: {facts:?}")));
        }
        order_of_executions(known, &mut found);
        for (actor, state) in &known.states {
            of_state(known, actor, state, &mut found);
        }
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
    must(facts.executions <= 1, "ran more than once");
    must(facts.took <= limit, "was answered after its deadline");
    let dropped = facts.releases.contains(&Release::Dropped);
    must(facts.abandoned || !dropped, "was dropped though its client waited (I2)");
    match facts.outcomes.first() {
        Some(Outcome::Acknowledged(_)) => {
            must(facts.executions == 1, "was acknowledged without an execution");
        }
        Some(Outcome::Refused(status, text)) => {
            must(matches!(status, 502..=504), "was refused with a status that nothing calls for");
            must(
                facts.executions == 0 || !certainly_not_run(*status, text),
                "ran though its error says that it did not",
            );
        }
        Some(Outcome::Lost | Outcome::Abandoned) | None => {}
    }
    found
}

/// Whether an error promises that the action did not run.
fn certainly_not_run(status: u16, text: &str) -> bool {
    status == 503 || text.starts_with("not started") || text.starts_with("cannot connect")
}

/// Each start of the proxy hands an actor's calls over in the order in which it let them in (I3).
fn order_of_executions(known: &Known, found: &mut Vec<String>) {
    let mut newest = BTreeMap::new();
    for id in &known.executed {
        let facts = &known.calls[id];
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
    let distinct: BTreeSet<_> = state.iter().collect();
    if distinct.len() != state.len() {
        found.push(format!("{actor}: its state tells of a call twice: {state:?}"));
    }
    for id in state {
        if !known.calls.get(id).is_some_and(|facts| facts.executions == 1 && facts.actor == actor) {
            found.push(format!("{actor}: its state tells of {id:?}, which did not run"));
        }
    }
    for (id, facts) in known.calls.iter().filter(|(_, facts)| facts.actor == actor) {
        if let Some(place) = facts.acknowledged()
            && state.get(place - 1) != Some(id)
        {
            found.push(format!("{actor}: {id:?} was acknowledged as {place} of {state:?}"));
        }
    }
}
