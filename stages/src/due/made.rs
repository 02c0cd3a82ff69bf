//! Made: the calls of due work that a target may get once more. A target may forget all other calls of due work (decision 18 i).
//!
//! A call is noted here before it is made, until its entry is durably gone. Entries that a former start may have called are known by
//! their time alone: they are older than the start. When there are too many, the oldest are known by their time alone, too. Until none
//! of these is left, none of them counts as gone.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::outbox::EffectSource;
use crate::state::Timestamp;

/// Calls that are noted one by one.
const MOST: usize = 16_384;
/// By how much the clock of a former start may have been ahead, in microseconds.
const AHEAD_US: u64 = 60 * 1_000_000;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct MadeCalls(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// Their times, and as what their targets know them.
    made: BTreeSet<(Timestamp, EffectSource)>,
    /// Of entries before this time it is not known which ones were called.
    unknown_before: Timestamp,
}

impl Default for MadeCalls {
    fn default() -> Self {
        let unknown_before = Timestamp(u64::MAX);
        Self(Mutex::new(Known { made: BTreeSet::new(), unknown_before }))
    }
}

impl MadeCalls {
    /// Whether a target gets no call any more from a source that a call of due work was.
    pub(crate) fn has_none(&self, source: &EffectSource) -> bool {
        let Some(call) = with_time(source) else { return false };
        let known = self.0.lock();
        known.unknown_before <= call.0 && !known.made.contains(&call)
    }

    /// This start begins now.
    pub(super) fn begin(&self, now: Timestamp) {
        self.0.lock().unknown_before = Timestamp(now.0.saturating_add(AHEAD_US));
    }

    /// A call is made. When there are too many, the oldest is known by its time alone.
    pub(super) fn made(&self, source: &EffectSource) {
        let mut known = self.0.lock();
        known.made.extend(with_time(source));
        if known.made.len() > MOST
            && let Some((Timestamp(oldest), _)) = known.made.pop_first()
        {
            known.unknown_before = known.unknown_before.max(Timestamp(oldest.saturating_add(1)));
        }
    }

    /// The entry of a call is gone from the store.
    pub(super) fn removed(&self, source: &EffectSource) {
        if let Some(call) = with_time(source) {
            self.0.lock().made.remove(&call);
        }
    }

    /// The time before which it is not known which entries were called; `None`: it is known of all.
    pub(super) fn unknown_before(&self) -> Option<Timestamp> {
        Some(self.0.lock().unknown_before).filter(|time| time.0 > 0)
    }

    /// All entries before a time are gone.
    pub(super) fn none_before(&self, time: Timestamp) {
        let mut known = self.0.lock();
        if known.unknown_before == time {
            known.unknown_before = Timestamp(0);
        }
    }
}

/// A source with the time of its call, with which its name begins.
fn with_time(source: &EffectSource) -> Option<(Timestamp, EffectSource)> {
    let (time, _) = source.name.split_once('/')?;
    Some((Timestamp(time.parse().ok()?), source.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::SourceKind;

    fn source(at: u64) -> EffectSource {
        let (system, name) = ("s".into(), format!("{at}/call/1.{at}"));
        EffectSource { kind: SourceKind::Due, system, name }
    }

    #[test]
    fn a_call_may_come_again_until_its_entry_is_gone_and_so_may_those_of_a_former_start() {
        let (calls, start) = (MadeCalls::default(), 1_000_000_000);
        let (former, own) = (source(start), source(start + AHEAD_US));
        assert!(!calls.has_none(&own), "it has not begun");
        calls.begin(Timestamp(start));
        assert!(!calls.has_none(&former) && calls.has_none(&own));
        calls.made(&former);
        calls.made(&own);
        calls.none_before(calls.unknown_before().unwrap());
        assert_eq!(calls.unknown_before(), None);
        for source in [former, own] {
            assert!(!calls.has_none(&source));
            calls.removed(&source);
            assert!(calls.has_none(&source));
        }
        let other = EffectSource { name: "run/1".into(), ..source(0) };
        assert!(!calls.has_none(&other), "no call has such a name");
    }

    #[test]
    fn a_bounded_number_is_known_and_the_oldest_beyond_it_may_come_again() {
        let calls = MadeCalls::default();
        calls.begin(Timestamp(0));
        calls.none_before(calls.unknown_before().unwrap());
        for at in 1..=MOST as u64 {
            calls.made(&source(at));
        }
        assert!(calls.has_none(&source(0)));
        calls.made(&source(MOST as u64 + 1));
        assert_eq!(calls.0.lock().made.len(), MOST);
        assert_eq!(calls.unknown_before(), Some(Timestamp(2)));
        assert!(!calls.has_none(&source(1)) && !calls.has_none(&source(9)));
        calls.removed(&source(9));
        assert!(calls.has_none(&source(9)), "the others are forgotten as before");
        calls.none_before(Timestamp(1));
        assert!(!calls.has_none(&source(0)), "another time was meant");
        calls.none_before(Timestamp(2));
        assert!(calls.has_none(&source(0)) && !calls.has_none(&source(2)));
    }
}
