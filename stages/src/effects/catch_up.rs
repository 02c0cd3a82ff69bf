//! Catch up: reads rows of stuck targets: the first one when it is to be tried again, and the others when that is answered.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::deliver::Delivery;
use super::feed::{Feeder, ROWS, patiently};
use super::making_way::WHILE_PAUSED;
use super::source::Source;
use super::stuck::{Phase, Stuck, Tries};
use crate::actor::ActorRef;
use crate::call::EmittedEffect;
use crate::outbox::record::Record;
use crate::outbox::{OutboxKey, OutboxRow};

/// Rows of one target that are read at once after it has answered.
const CATCH_UP: usize = 16;

impl Feeder {
    /// Has the first effects for stuck targets tried again when it is time.
    pub(super) async fn try_again(&self) {
        let all = &self.effects.0.stuck;
        loop {
            let is_earlier = all.is_earlier.notified();
            let next = all.waiting.lock().first_key_value().map(|((at, _), _)| *at);
            match next {
                Some(at) if at <= Instant::now() => {}
                Some(at) => {
                    tokio::select! {
                        () = sleep_until(at) => {}
                        () = is_earlier => continue,
                    }
                }
                None => {
                    is_earlier.await;
                    continue;
                }
            }
            let Some((_, (source, target))) = all.waiting.lock().pop_first() else { continue };
            if self.directory.pauses.is_paused(&target) {
                self.effects.try_later(&source, &target, WHILE_PAUSED);
                continue;
            }
            let bytes = {
                let state = source.state.lock();
                let stuck = state.stuck.get(&target);
                stuck.filter(|stuck| stuck.phase == Phase::Waiting).map(|stuck| stuck.bytes)
            };
            let Some(bytes) = bytes else { continue };
            let Some(probe) = self.effects.probe(bytes).await else { return };
            let mut state = source.state.lock();
            if let Some(stuck) = state.stuck.get_mut(&target)
                && stuck.phase == Phase::Waiting
            {
                (stuck.phase, stuck.probe) = (Phase::Due, Some(probe));
                self.effects.feed_now(&source, &mut state);
            }
        }
    }

    /// Reads for the stuck targets of a source for which that is due.
    pub(super) async fn feed_stuck(&self, source: &Arc<Source>) {
        while !self.effects.0.stop.is_cancelled() {
            let ready = source.state.lock().ready();
            let Some((target, behind, phase)) = ready else { return };
            self.catch_up(source, &target, behind, phase).await;
        }
    }

    /// Queues rows of a stuck target: the first one when that is due, else some more.
    async fn catch_up(
        &self,
        source: &Arc<Source>,
        target: &ActorRef,
        mut behind: Option<OutboxKey>,
        phase: Phase,
    ) {
        let (mut after, mut queued) = (behind, 0);
        loop {
            let through = source.state.lock().through;
            let page = patiently(|| self.store.outbox(&source.key, after, ROWS)).await;
            let mut is_last = !page.more;
            for row in page.items {
                if Some(row.key) > through {
                    // It is read with those of other targets.
                    is_last = true;
                    break;
                }
                after = Some(row.key);
                let Some(effect) = effect_for(target, row) else { continue };
                let key = effect.row.key;
                if !self.queue_stuck(source, effect, behind, phase).await {
                    return;
                }
                (behind, queued) = (Some(key), queued + 1);
                if phase == Phase::Due || queued >= CATCH_UP {
                    return;
                }
            }
            let mut state = source.state.lock();
            if is_last && state.through == through {
                let is_same = |stuck: &Stuck| stuck.behind == behind && stuck.phase == phase;
                if state.stuck.get(target).is_some_and(is_same) {
                    self.effects.unstick(&mut state, target);
                }
                return;
            }
        }
    }

    /// Queues a row of a stuck target if nothing has changed. Returns false when it has, or when the proxy ends.
    async fn queue_stuck(
        &self,
        source: &Arc<Source>,
        effect: EmittedEffect,
        behind: Option<OutboxKey>,
        phase: Phase,
    ) -> bool {
        let effects = &self.effects;
        let (key, bytes) = (effect.row.key, effect.row.bytes().min(effects.0.most_bytes));
        let target = ActorRef::new(&effect.invocation.actor.system, &effect.invocation.actor.name);
        let Some(permit) = self.permit(bytes).await else { return false };
        let mut state = source.state.lock();
        let Some(stuck) = state.stuck.get_mut(&target) else { return false };
        if stuck.behind != behind || stuck.phase != phase {
            return false;
        }
        stuck.behind = Some(key);
        let (mut tries, mut probe) = (Tries::default(), None);
        if phase == Phase::Due {
            (stuck.phase, stuck.first) = (Phase::InMemory(key), None);
            (tries, probe) = (std::mem::take(&mut stuck.tries), stuck.probe.take());
        }
        let delivery = Delivery::new(effects.clone(), source.clone(), effect, permit);
        effects.enqueue(&mut state, delivery.after(tries, probe));
        true
    }
}

/// The effect in a row, if it is for this target and to be delivered.
fn effect_for(target: &ActorRef, row: OutboxRow) -> Option<EmittedEffect> {
    let Record { at, dead, invocation } = Record::decode(row.record.clone())?;
    let actor = &invocation.actor;
    let is_meant = actor.system == target.system() && actor.name == target.name();
    (dead.is_none() && is_meant).then_some(EmittedEffect { row, invocation, at })
}
