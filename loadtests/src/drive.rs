//! Drive: makes the calls of a phase over all connections and checks every response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::counter::mix;
use crate::dialect::{Dialect, Outcome, Script};
use crate::ledger::Ledger;
use crate::progress;
use crate::recorder::{Entry, Recorder};
use crate::report::Report;
use crate::schedule::{Arrivals, Schedule};

/// Concurrent calls that activate the actors.
const TOUCHERS: usize = 16;
/// How long after the last arrival a due call may still be sent.
const LINGER: Duration = Duration::from_millis(200);

/// The target and the properties of the calls.
#[derive(Debug, Clone)]
pub struct Rig {
    pub target: SocketAddr,
    pub dialect: Dialect,
    pub system: String,
    pub actors: usize,
    /// Whether each call has a side effect to one of as many further actors.
    pub effects: bool,
    pub state_bytes: usize,
    pub connections: usize,
    /// Deadline of each call.
    pub deadline: Duration,
    /// Selects other actors in another order.
    pub seed: u64,
}

/// When calls are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Every connection sends the next call when it has received a response.
    Closed,
    /// This many calls per second, whatever the target does.
    Open(f64),
}

/// The connections and the ledger; they outlive a phase.
#[derive(Debug)]
pub struct Drive {
    rig: Rig,
    script: Arc<Script>,
    ledger: Arc<Ledger>,
    clients: Vec<Client>,
    /// Calls made so far, so that each phase selects other actors.
    asked: u64,
}

impl Drive {
    /// Prepares the calls, but does not connect.
    ///
    /// # Errors
    /// When the system's name does not fit into a path.
    pub fn new(rig: Rig) -> anyhow::Result<Self> {
        let Rig { dialect, actors, state_bytes, effects, .. } = rig;
        let script = Script::new(dialect, &rig.system, actors, state_bytes, effects)?;
        let clients = (0..rig.connections).map(|_| Client::new(rig.target, rig.deadline)).collect();
        let ledger = Arc::new(Ledger::new(rig.actors));
        Ok(Self { asked: mix(rig.seed) >> 32, rig, script: Arc::new(script), ledger, clients })
    }

    /// Calls every actor once, so that no measured call includes an activation. Records each actor's count so far.
    ///
    /// # Errors
    /// When any of these calls fails.
    pub async fn touch(&mut self) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for first in 0..TOUCHERS.min(self.rig.actors) {
            let (script, ledger) = (Arc::clone(&self.script), Arc::clone(&self.ledger));
            let mut client = Client::new(self.rig.target, self.rig.deadline);
            tasks.spawn(async move {
                for actor in (first..ledger.actors()).step_by(TOUCHERS) {
                    let asked = ledger.asks(actor);
                    let request = script.request(&client, asked);
                    let answer = client.call(request).await;
                    match script.outcome(asked, answer) {
                        Outcome::Counted(count) => {
                            ledger.opens_at(actor, count.saturating_sub(1));
                            ledger.answered(asked, count)?;
                        }
                        other => bail!("the first call to actor {actor} failed: {other:?}"),
                    }
                }
                anyhow::Ok(())
            });
        }
        while let Some(touched) = tasks.join_next().await {
            touched.context("a task that touches actors panicked")??;
        }
        Ok(())
    }

    /// Makes the calls of one phase and waits until all have finished.
    ///
    /// # Errors
    /// When a task panicked. Failed and wrong calls are in the report.
    pub async fn phase(
        &mut self,
        label: &str,
        pace: Pace,
        duration: Duration,
    ) -> anyhow::Result<Report> {
        let recorder = Arc::new(Recorder::new()?);
        let started = Instant::now();
        let arrivals = match pace {
            Pace::Closed => None,
            Pace::Open(rate) => Some(Arc::new(Arrivals::new(Schedule::new(rate, duration)))),
        };
        let mut pacer = JoinSet::new();
        if let Some(arrivals) = arrivals.clone() {
            pacer.spawn_blocking(move || arrivals.pace(LINGER));
        }
        let mut workers = JoinSet::new();
        let asked = self.asked;
        for (number, client) in self.clients.drain(..).enumerate() {
            let worker = Worker {
                number,
                script: Arc::clone(&self.script),
                ledger: Arc::clone(&self.ledger),
                recorder: Arc::clone(&recorder),
                client,
            };
            match arrivals.clone() {
                Some(arrivals) => workers.spawn(worker.follow(arrivals, asked)),
                None => {
                    workers.spawn(worker.repeat(started + duration, asked, self.rig.connections))
                }
            };
        }
        let _closed = arrivals.clone().map(CloseOnDrop);
        let clients = tokio::select! {
            clients = workers.join_all() => clients,
            never = progress::show(label, &recorder, duration) => match never {},
        };
        let elapsed = started.elapsed();
        progress::clear();
        pacer.join_all().await;
        self.clients = clients;
        let tally = recorder.total()?;
        self.asked += tally.ended() + 1;
        let (due, unsent) = match &arrivals {
            Some(arrivals) => (Some(arrivals.total()), arrivals.untaken()),
            None => (None, 0),
        };
        let mut report = Report::new(tally, elapsed, due, unsent);
        report.add_wrong(self.ledger.audit().iter().map(ToString::to_string));
        Ok(report)
    }
}

/// Ends the pacing thread, also when a phase is interrupted.
#[derive(Debug)]
struct CloseOnDrop(Arc<Arrivals>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One connection of a phase.
#[derive(Debug)]
struct Worker {
    number: usize,
    script: Arc<Script>,
    ledger: Arc<Ledger>,
    recorder: Arc<Recorder>,
    client: Client,
}

impl Worker {
    async fn repeat(mut self, end: Instant, asked: u64, workers: usize) -> Client {
        let mut turn = asked + self.number as u64;
        while Instant::now() < end {
            self.call(turn, None).await;
            turn += workers as u64;
        }
        self.client
    }

    async fn follow(mut self, arrivals: Arc<Arrivals>, asked: u64) -> Client {
        while let Some((number, due)) = arrivals.next().await {
            self.call(asked + number, Some(due)).await;
        }
        self.client
    }

    /// Makes the `turn`th call. The actor is pseudo-random, but always the same for one turn.
    async fn call(&mut self, turn: u64, due: Option<Instant>) {
        let actors = self.ledger.actors() as u64;
        let actor = usize::try_from(mix(turn) % actors).unwrap_or(0);
        let asked = self.ledger.asks(actor);
        let request = self.script.request(&self.client, asked);
        let sent = Instant::now();
        let answer = self.client.call(request).await;
        let latency = due.unwrap_or(sent).elapsed();
        let entry = match self.script.outcome(asked, answer) {
            Outcome::Counted(count) => match self.ledger.answered(asked, count) {
                Ok(()) => Entry::Answered(latency),
                Err(wrong) => Entry::Wrong(wrong.to_string()),
            },
            Outcome::Shed => {
                self.ledger.did_not_run(asked);
                Entry::Shed(latency)
            }
            Outcome::NotRun(text) => {
                self.ledger.did_not_run(asked);
                Entry::Failed(text)
            }
            Outcome::Unknown(text) => {
                self.ledger.is_unknown(asked);
                Entry::Failed(text)
            }
            Outcome::Malformed(text) => {
                self.ledger.is_unknown(asked);
                Entry::Wrong(text)
            }
        };
        let late = due.map(|due| sent.saturating_duration_since(due));
        self.recorder.add(self.number, late, entry);
    }
}
