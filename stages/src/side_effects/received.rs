//! Received: the turn that delivers an effect. That the effect is answered is written with what the turn changes, so it
//! counts exactly once for a target that has a state (decision 18 f).

use std::sync::atomic::Ordering;

use tracing::warn;

use super::plan::replied;
use super::{Plan, Planner};
use crate::call::{Answered, Call, Committed, Completion, Received, Task};
use crate::error::Error;
use crate::invocation::{ActorInvocationResponse, Payload};
use crate::outbox::{EffectRows, EffectSource, Seen};
use crate::ports::StoreError;
use crate::registry::entry::CheckedOut;
use crate::reply::Reply;
use crate::traces::Mark;

impl Planner {
    /// Applies the response to an effect. Without one, the effect was answered before, or its answer is useless.
    ///
    /// # Errors
    /// The call and why the effect is not answered; the actor is as it was.
    pub(super) fn plan_received(
        &self,
        actor: &mut CheckedOut,
        mut call: Box<Call>,
        response: Option<ActorInvocationResponse>,
    ) -> Result<Plan, (Box<Call>, Error)> {
        let Some(mut effect) = call.effect.take() else {
            return Err((call, Error::Internal("the call delivers no effect".into())));
        };
        let is_repeated = actor.live.has_seen(&effect.source, effect.id);
        let (mut plan, how) = if is_repeated {
            (answered(actor, call, None), Answered::Before)
        } else {
            match self.plan_answer(actor, call, response, effect.failed.take()) {
                Ok(planned) => planned,
                Err((mut call, error)) => {
                    call.effect = Some(effect);
                    return Err((call, error));
                }
            }
        };
        let Received { source, id, ack, failed: _ } = *effect;
        plan.rest.ack = Some(ack.saying(how));
        if let Completion::Route(placed) = &mut plan.rest.completion
            && let Task::Call(call) = &mut placed.task
        {
            // The acknowledgement ends the delivery: nobody waits for the answer of the next actor.
            let delivered = std::mem::replace(&mut call.reply, Reply::unwanted());
            delivered.send(Ok(Payload::Unset));
        }
        if actor.spec.hosted.definition.stateful && !is_repeated {
            let seen = Seen { source, id };
            actor.live.see(seen.clone());
            actor.entry.has_seen.store(true, Ordering::Relaxed);
            let most = usize::try_from(self.rules.max_seen).unwrap_or(usize::MAX);
            let is_done = |other: &EffectSource| {
                *other != *seen.source && self.effects.has_nothing_pending(other)
            };
            let forgotten = actor.live.forget(most, is_done);
            let rows = EffectRows { seen: vec![seen], forgotten, ..EffectRows::default() };
            plan.save = Some(self.save_with(actor, plan.save, rows));
        }
        Ok(plan)
    }

    /// Applies the response, or notes that there is nothing to apply.
    fn plan_answer(
        &self,
        actor: &mut CheckedOut,
        call: Box<Call>,
        response: Option<ActorInvocationResponse>,
        failed: Option<Error>,
    ) -> Result<(Plan, Answered), (Box<Call>, Error)> {
        let outcome = match (response, failed) {
            (Some(response), _) => self.plan_call(actor, call, response),
            (None, Some(error)) if actor.live.incarnation.is_abandoned() => {
                let lost = StoreError::Unavailable(error.to_string());
                Err((call, Error::Store(lost)))
            }
            (None, Some(error)) => Err((call, error)),
            (None, None) => Err((call, Error::Internal("the effect has no answer".into()))),
        };
        let (call, error) = match outcome {
            Ok(plan) => return Ok((plan, Answered::Done)),
            Err(failed) => failed,
        };
        if !is_answer(&error) {
            return Err((call, error));
        }
        let (request_id, trace_id) = call.ids();
        warn!(actor = %actor.entry.actor, action = call.action, %error, request_id, trace_id, "the answer to a side effect changes nothing");
        Ok((answered(actor, call, Some(error)), Answered::Failed))
    }
}

/// How a turn ends that changes nothing.
fn answered(actor: &CheckedOut, call: Box<Call>, error: Option<Error>) -> Plan {
    let answer = error.map_or(Ok(Payload::Unset), Err);
    call.timing.mark(Mark::Planned);
    let (completion, traced) = replied(actor.entry.actor.clone(), call, answer);
    Plan { save: None, rest: Committed { traced, ..Committed::of(completion) } }
}

/// Whether an error is the answer to an effect: there was a complete response, and trying again would not change it.
fn is_answer(error: &Error) -> bool {
    match error {
        Error::Host(error) => error.is_answer(),
        Error::TooLarge(_) | Error::BadRoute(_) | Error::NotAllowed(_) | Error::Unsupported(_) => {
            true
        }
        _ => false,
    }
}
