//! Facts: what happened to every call, as seen by its client, the proxy's ingress and the actor host.
//!
//! All simulated machines write to one record, which only a simulation can have. So a test can compare an
//! execution with the response to its caller, and with the order in which the ingress admitted calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_stages::testkit::faulty::FaultyStore;

use crate::call::{CallId, Kind};

/// How a call ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Success; the call is the so-manieth that the actor's state tells of.
    Acknowledged(usize),
    /// Success of a call for a later time: it is kept until then.
    Accepted,
    /// Success of a publication: it is in the mailboxes of so many subscribers.
    Published(u64),
    /// A typed error.
    Refused(u16, String),
    /// The connection ended first.
    Lost,
    /// The client hung up first.
    Abandoned,
}

/// How the ingress's future of a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// With an answer.
    Answered,
    /// Dropped, as for a client that is gone.
    Dropped,
    /// Lost with the proxy.
    Crashed,
}

/// One start of the proxy, and the number of the call in it.
pub(crate) type Admission = (u32, u32);

/// Everything that is known of a call.
#[derive(Debug, Default)]
pub(crate) struct CallFacts {
    pub(crate) kind: Kind,
    pub(crate) actor: String,
    /// When the ingress admitted it; more than one: it was sent twice.
    pub(crate) admissions: Vec<Admission>,
    pub(crate) releases: Vec<Release>,
    pub(crate) executions: u32,
    /// When it ran first, since the epoch.
    pub(crate) ran_at: Option<Duration>,
    pub(crate) outcomes: Vec<Outcome>,
    /// From the first byte sent to the outcome.
    pub(crate) took: Duration,
    /// Whether the client hung up, whatever the answer.
    pub(crate) abandoned: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) calls: BTreeMap<CallId, CallFacts>,
    /// Executions, in the order in which they began.
    pub(crate) executed: Vec<CallId>,
    /// The final states: the calls that each actor tells of, oldest first.
    pub(crate) states: BTreeMap<String, Vec<CallId>>,
    /// Before when a call must not run, since the epoch.
    pub(crate) due: BTreeMap<CallId, Duration>,
    /// Publications during which nothing failed.
    pub(crate) certain: Vec<CallId>,
    /// For each schedule the runs that a client began, and those of which it does not know.
    pub(crate) begun: BTreeMap<usize, (u64, u64)>,
    /// Whether nothing ever fails.
    pub(crate) nothing_fails: bool,
    /// What was wrong the moment it was seen.
    pub(crate) complaints: Vec<String>,
    /// What happened when, in lines: two runs of one seed write the same.
    pub(crate) trace: String,
    running: BTreeMap<String, BTreeSet<CallId>>,
    lives: u32,
    admitted: u32,
    crashes: u32,
    crashing: bool,
}

/// The book; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Facts(Mutex<Known>, Mutex<Option<Arc<FaultyStore>>>);

impl Facts {
    /// Everything, once all is over.
    pub(crate) fn read<R>(&self, reader: impl FnOnce(&Known) -> R) -> R {
        reader(&self.0.lock())
    }

    /// A client is about to call.
    pub(crate) fn attempt(&self, actor: &str, kind: Kind) -> CallId {
        let mut known = self.0.lock();
        let sent = known.calls.keys().filter(|id| id.kind() == Kind::Call).count();
        let id = CallId(u32::try_from(sent).expect("few calls"));
        known.note(&format!("{id:?} for {actor}: {kind:?}"));
        known.calls.insert(id, CallFacts { kind, actor: actor.into(), ..CallFacts::default() });
        id
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&self, line: &str) {
        self.0.lock().note(line);
    }

    /// Adds to what is known.
    pub(crate) fn learn(&self, learn: impl FnOnce(&mut Known)) {
        learn(&mut self.0.lock());
    }

    /// A call must not run before this time, since the epoch.
    pub(crate) fn due(&self, id: CallId, at: Duration) {
        self.0.lock().due.insert(id, at);
    }

    /// A number for the tick of a timer.
    pub(crate) fn tick(&self) -> CallId {
        CallId::of(Kind::Tick, 0, u32::try_from(self.0.lock().ticks().count()).expect("few"))
    }

    /// A client hangs up.
    pub(crate) fn abandon(&self, id: CallId) {
        self.0.lock().facts(id).abandoned = true;
    }

    /// A client's call has ended.
    pub(crate) fn outcome(&self, id: CallId, outcome: Outcome, took: Duration) {
        let mut known = self.0.lock();
        known.note(&format!("{id:?} ends: {outcome:?}"));
        let facts = known.facts(id);
        facts.outcomes.push(outcome);
        facts.took = took;
    }

    /// Something is wrong.
    pub(crate) fn complain(&self, complaint: String) {
        self.0.lock().complaints.push(complaint);
    }

    /// The store of the proxy that runs, to make it fail.
    pub(crate) fn store(&self) -> Option<Arc<FaultyStore>> {
        self.1.lock().clone()
    }

    /// The proxy has been started, on this store.
    pub(crate) fn begin_life(&self, store: &Arc<FaultyStore>) {
        *self.1.lock() = Some(store.clone());
        let mut known = self.0.lock();
        known.lives += 1;
        known.admitted = 0;
        known.note("the proxy starts");
    }

    /// Runs what crashes the proxy.
    pub(crate) fn crash(&self, crash: impl FnOnce()) {
        {
            let mut known = self.0.lock();
            known.crashes += 1;
            known.crashing = true;
        }
        crash();
        self.0.lock().crashing = false;
    }

    /// How often the proxy has crashed so far.
    pub(crate) fn crashes(&self) -> u32 {
        self.0.lock().crashes
    }

    /// The ingress admits a call.
    pub(crate) fn admit(self: &Arc<Self>, id: CallId) -> Stay {
        let mut known = self.0.lock();
        known.admitted += 1;
        let admission = (known.lives, known.admitted);
        known.note(&format!("{id:?} comes in as {admission:?}"));
        known.facts(id).admissions.push(admission);
        Stay { facts: self.clone(), id, answered: false }
    }

    /// The host begins to run a call on a state that tells of `applied`.
    pub(crate) fn execute(
        self: &Arc<Self>,
        actor: &str,
        id: CallId,
        applied: &[CallId],
    ) -> Execution {
        let mut known = self.0.lock();
        known.executed.push(id);
        known.note(&format!("{id:?} runs after {}", applied.len()));
        if id.kind() != Kind::Call {
            let facts = known.calls.entry(id).or_default();
            (facts.kind, facts.actor) = (id.kind(), actor.to_owned());
        }
        let facts = known.facts(id);
        facts.executions += 1;
        facts.ran_at = facts.ran_at.or_else(turmoil::since_epoch);
        let (actor, life) = (facts.actor.clone(), facts.life());
        let mut complaints = Vec::new();
        // A proxy that was restarted knows nothing of what the one before has sent. Which one sent an effect, or a call that is
        // due, is not known: as soon as one was restarted these are not compared.
        let is_known = |id: &CallId| known.lives <= 1 || known.calls[id].kind == Kind::Call;
        let running = known.running.get(&actor).into_iter().flatten();
        let running = running.filter(|other| is_known(&id) && is_known(other));
        for other in running.filter(|other| known.calls[other].life() == life) {
            complaints.push(format!("{actor}: {id:?} runs beside {other:?} (I3)"));
        }
        for (other, facts) in known.calls.iter().filter(|(_, facts)| facts.actor == actor) {
            let acknowledged = facts.acknowledged().is_some() && facts.life() <= life;
            if acknowledged && !applied.contains(other) {
                complaints.push(format!("{actor}: {id:?} runs without acknowledged {other:?}"));
            }
        }
        known.complaints.append(&mut complaints);
        known.running.entry(actor.clone()).or_default().insert(id);
        Execution { facts: self.clone(), actor, id }
    }

    /// What an actor says in the end.
    pub(crate) fn state(&self, actor: &str, calls: Vec<CallId>) {
        self.0.lock().states.insert(actor.into(), calls);
    }
}

impl Known {
    /// How often the proxy has started.
    pub(crate) fn lives(&self) -> u32 {
        self.lives
    }

    /// The ticks that ran, in order.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = Duration> {
        let ticks = self.calls.iter().filter(|(id, _)| id.kind() == Kind::Tick);
        ticks.filter_map(|(_, facts)| facts.ran_at)
    }

    fn note(&mut self, line: &str) {
        // None for what happens between the machines' steps.
        let at = turmoil::sim_elapsed().map_or_else(String::new, |at| format!("{at:?}"));
        writeln!(self.trace, "{at:>9} {line}").expect("a String takes all");
    }

    fn facts(&mut self, id: CallId) -> &mut CallFacts {
        self.calls.get_mut(&id).expect("a call is attempted first")
    }
}

impl CallFacts {
    /// The start of the proxy that let it in; 0 for none.
    pub(crate) fn life(&self) -> u32 {
        self.admissions.first().map_or(0, |(life, _)| *life)
    }

    /// Its place in the actor's state, if its client was told of success.
    pub(crate) fn acknowledged(&self) -> Option<usize> {
        self.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Acknowledged(place) => Some(*place),
            _ => None,
        })
    }
}

/// A call inside the ingress.
pub(crate) struct Stay {
    facts: Arc<Facts>,
    id: CallId,
    answered: bool,
}

impl Stay {
    /// It has its answer.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut known = self.facts.0.lock();
        let release = match (self.answered, known.crashing) {
            (true, _) => Release::Answered,
            (false, true) => Release::Crashed,
            (false, false) => Release::Dropped,
        };
        known.note(&format!("{:?} is released: {release:?}", self.id));
        known.facts(self.id).releases.push(release);
    }
}

/// A call that the host runs.
pub(crate) struct Execution {
    facts: Arc<Facts>,
    actor: String,
    id: CallId,
}

impl Drop for Execution {
    fn drop(&mut self) {
        let mut known = self.facts.0.lock();
        known.note(&format!("{:?} has run", self.id));
        known.running.get_mut(&self.actor).expect("it was entered").remove(&self.id);
    }
}
