//! Keep: a checkpoint or a restore that somebody asked for, as a turn of the actor like any other.
//!
//! Neither needs the actor's host: the init action of an actor that was not in memory waits for its first call.

use crate::caller::Asked;
use crate::egress::Completion;
use crate::error::Error;
use crate::lookup::{CheckedOut, Halt, in_time};
use crate::ports::Host;
use crate::state::{Checkpoint, Revision, Status};
use crate::worker::Worker;

/// A question that was not answered, and why.
type Unanswered = (Asked<Checkpoint>, Halt);

impl<H: Host> Worker<H> {
    /// Appends the content to the history unless it is there already, and tells of it once it is durable.
    pub(super) async fn checkpoint(
        &self,
        mut actor: CheckedOut,
        asked: Asked<Checkpoint>,
    ) -> Result<(), Unanswered> {
        match self.see_newest(&mut actor).await {
            Ok(()) => self.keep(actor, None, asked).await,
            Err(halt) => Err(unanswered(actor, asked, halt)),
        }
    }

    /// Makes an older revision's content the current one. It becomes a new revision, so that no number
    /// stands for two contents (I4).
    pub(super) async fn restore(
        &self,
        actor: CheckedOut,
        number: u64,
        asked: Asked<Checkpoint>,
    ) -> Result<(), Unanswered> {
        match self.older(&actor, number).await {
            Ok(older) => self.keep(actor, Some(older), asked).await,
            Err(halt) => Err(unanswered(actor, asked, halt)),
        }
    }

    /// Looks at the newest revision of an actor whose orderly end spared its activation that.
    async fn see_newest(&self, actor: &mut CheckedOut) -> Result<(), Halt> {
        refuse_stateless(actor)?;
        if let Some(number) = actor.live.unseen_revision() {
            let loading = self.store.load_revision(&actor.spec.id, number);
            let newest = in_time(loading).await.map_err(Halt::again)?;
            actor.live.see_revision(newest.as_ref());
        }
        Ok(())
    }

    async fn older(&self, actor: &CheckedOut, number: u64) -> Result<Revision, Halt> {
        refuse_stateless(actor)?;
        let loading = self.store.load_revision(&actor.spec.id, number);
        let found = in_time(loading).await.map_err(Halt::again)?;
        found.ok_or_else(|| {
            let (system, name) = (actor.entry.actor.system(), actor.entry.actor.name());
            Halt::end(Error::no_revision(system, name, number))
        })
    }

    /// From here on the actor changes: whoever was told that nothing was done is told the truth.
    async fn keep(
        &self,
        mut actor: CheckedOut,
        older: Option<Revision>,
        asked: Asked<Checkpoint>,
    ) -> Result<(), Unanswered> {
        if asked.reply.is_abandoned() || !asked.timing.start() {
            let why = "it was given up before".into();
            let error = Error::NotStarted(asked.timing.elapsed(), why);
            return Err(unanswered(actor, asked, Halt::end(error)));
        }
        let append = older.is_some() || actor.live.is_unrevised();
        if let Some(older) = older {
            actor.live.restore(older);
        }
        let save = (append || actor.live.is_dirty())
            .then(|| self.save(&mut actor, Status::Activated, append));
        let kept = Box::new(actor.live.checkpoint());
        let completion = Completion::Kept(asked.reply, kept, asked.permit);
        self.submit(&mut actor, save, completion, Vec::new()).await;
        actor.check_in();
        Ok(())
    }
}

fn unanswered(actor: CheckedOut, asked: Asked<Checkpoint>, halt: Halt) -> Unanswered {
    actor.check_in();
    (asked, halt)
}

fn refuse_stateless(actor: &CheckedOut) -> Result<(), Halt> {
    if actor.spec.hosted.definition.stateful {
        return Ok(());
    }
    let name = actor.entry.actor.name();
    let text = format!("Actor {name} is stateless: nothing of it is kept, and it has no history");
    Err(Halt::end(Error::Conflict(text)))
}
