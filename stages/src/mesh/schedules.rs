//! Schedules: creates, changes and shows them.

use std::sync::Arc;

use crate::actor::Kind;
use crate::call::{Origin, Request};
use crate::caller::{Allow, Check};
use crate::error::Error;
use crate::filter::Predicate;
use crate::history::Page;
use crate::identity::Identity;
use crate::mesh::Mesh;
use crate::ports::Clock;
use crate::registry::entry::Hosted;
use crate::schedules::{Schedule, ScheduleKey, Spec};
use crate::state::Timestamp;

/// What is asked of schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleAsk {
    /// Create one in the system of its actor.
    Put {
        /// Its name.
        name: String,
        /// What it is to do.
        spec: Box<Spec>,
        /// Whether it is paused.
        is_paused: bool,
        /// Whether one of this name has this to do from now on; its numbers and its runs stay.
        replaces: bool,
        /// Whether the first time of its period was not given: then one that has the same period keeps its own.
        keeps_first: bool,
    },
    /// Show one.
    Get(ScheduleKey),
    /// Show those of a system.
    List {
        /// The system.
        system: String,
        /// The name after which they come; empty: from the first on.
        after: String,
        /// How many at most.
        limit: usize,
    },
    /// Begin no run from now on.
    Pause(ScheduleKey),
    /// End a pause.
    Resume(ScheduleKey),
    /// Begin a run now.
    Run(ScheduleKey),
    /// Remove one. A run that has begun goes on.
    Delete(ScheduleKey),
}

/// The answer to a [`ScheduleAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleTold {
    /// What the schedule is now.
    One(Box<Schedule>),
    /// A page of those of a system.
    Many(Page<Schedule>),
    /// It is done.
    Done,
}

impl Mesh {
    /// Does what is asked of schedules. When one is created, policies see what they see of the call that it makes.
    ///
    /// # Errors
    /// When the client may not make the call; actor, action or schedule is unknown; a bound is not kept to; it would never
    /// run; there is one of this name; the overlap policy allows no run now; schedules are switched off; the store fails, or
    /// the mesh is draining.
    pub async fn ask_schedule(
        &self,
        client: Identity,
        ask: ScheduleAsk,
    ) -> Result<ScheduleTold, Error> {
        self.refuse_while_closed()?;
        let schedules = &self.schedules;
        let one = match ask {
            ScheduleAsk::Put { name, mut spec, is_paused, replaces, keeps_first } => {
                spec.call.identity = client;
                let is_pool = self.check_call(&spec)?;
                // At other actors the flag means nothing, and runs come one after the other.
                spec.call.pooled &= is_pool;
                let key = ScheduleKey { system: spec.call.actor.system.clone(), name };
                schedules.put(key, *spec, is_paused, replaces, keeps_first).await?
            }
            ScheduleAsk::Get(key) => schedules.get(&key).await?,
            ScheduleAsk::Pause(key) => schedules.pause(&key).await?,
            ScheduleAsk::Resume(key) => schedules.resume(&key).await?,
            ScheduleAsk::Run(key) => schedules.run_now(&key).await?,
            ScheduleAsk::List { system, after, limit } => {
                return schedules.list(&system, &after, limit).await.map(ScheduleTold::Many);
            }
            ScheduleAsk::Delete(key) => {
                schedules.delete(&key).await?;
                return Ok(ScheduleTold::Done);
            }
        };
        Ok(ScheduleTold::One(Box::new(one)))
    }

    /// Checks that a client could make the call of a schedule now. Returns whether its actor is a pool.
    fn check_call(&self, spec: &Spec) -> Result<bool, Error> {
        if !self.due.takes_new() {
            let text = "schedules are switched off (SPAWN_DELAYED_INVOKES)";
            return Err(Error::Unsupported(text.into()));
        }
        let request = Request { invocation: Box::new(spec.call.clone()), origin: Origin::Outside };
        let request = Allow { policies: self.policies.clone() }.check(request)?;
        let clock: Arc<dyn Clock> = Arc::new(Now(self.due.now()));
        let registrar = self.registrar.clone();
        let checked = Check { registrar, clock, delayed_calls: true }.check(request)?;
        let is_pool = |hosted: &Hosted| matches!(hosted.definition.kind, Kind::Pooled { .. });
        Ok(checked.to_spawn.is_none() && checked.entry.with_hosted(is_pool))
    }
}

/// A clock that stands.
#[derive(Debug)]
struct Now(Timestamp);

impl Clock for Now {
    fn now(&self) -> Timestamp {
        self.0
    }
}
