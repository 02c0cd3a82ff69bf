//! Egress: sends what a committed turn leaves: the reply or the routed call, then the side effects, then the broadcast (decision 18).

use crate::call::{Committed, Completion};
use crate::channels::Channels;
use crate::effects::Effects;
use crate::placement::Mailboxes;

/// The end of the path; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    pub(crate) mailboxes: Mailboxes,
    pub(crate) effects: Effects,
    pub(crate) channels: Channels,
}

impl Egress {
    pub(crate) fn new(mailboxes: &Mailboxes, effects: &Effects, channels: &Channels) -> Self {
        let (effects, channels) = (effects.clone(), channels.clone());
        Self { mailboxes: mailboxes.clone(), effects, channels }
    }

    /// Sends everything, in order.
    pub(crate) fn complete(&self, committed: Committed) {
        let Committed { completion, emitted, ack, broadcast, traced } = committed;
        let traced = traced.map(|traced| (traced, completion.failure(), completion.unheard()));
        match completion {
            Completion::Reply(reply, answer, _permit) => reply.send(answer),
            Completion::State(reply, state, _permit) => reply.send(Ok(state)),
            Completion::Checkpoint(reply, kept, _permit) => reply.send(Ok(*kept)),
            Completion::Route(placed) => self.mailboxes.route(*placed),
            Completion::Done(reply) => reply.send(Ok(())),
            Completion::Nothing => {}
        }
        if let Some(ack) = ack {
            ack.send(Ok(()));
        }
        if let Some(emitted) = emitted {
            self.effects.send(*emitted);
        }
        if let Some(broadcast) = broadcast {
            self.channels.send(*broadcast);
        }
        if let Some(((actor, call), failure, unheard)) = traced {
            match unheard {
                Some(unheard) => call.end_unheard_trace(&actor, &unheard),
                None => call.end_trace(&actor, failure.as_ref()),
            }
        }
    }
}
