//! Verdict: whether the counts after the crash agree with the counts that callers received before it.

use std::fmt;

/// One actor before and after the crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) actor: String,
    /// The last count that the caller received.
    pub(super) acknowledged: u64,
    /// Calls sent: at most one more, because each actor has one caller.
    pub(super) tried: u64,
    /// The count after the restart.
    pub(super) found: u64,
}

impl Verdict {
    /// Whether an acknowledged count is missing.
    pub(super) fn is_lost(&self) -> bool {
        self.found < self.acknowledged
    }

    /// Whether the action ran more often than it was called.
    pub(super) fn is_doubled(&self) -> bool {
        self.found > self.tried
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { actor, acknowledged, tried, found } = self;
        let word = if self.is_lost() {
            format!("LOST {}", acknowledged - found)
        } else if self.is_doubled() {
            format!("RAN {} TIMES TOO OFTEN", found - tried)
        } else if found > acknowledged {
            "kept, with the call in flight".into()
        } else {
            "kept".into()
        };
        write!(f, "{actor:<10} {acknowledged:>12} {tried:>8} {found:>8}   {word}")
    }
}

pub(super) fn heading() -> String {
    format!("{:<10} {:>12} {:>8} {:>8}", "actor", "acknowledged", "tried", "found")
}

/// Returns the message about lost or wrong counts; `None` when all are right.
pub(super) fn broken_promises(verdicts: &[Verdict]) -> Option<String> {
    let lost = verdicts.iter().filter(|verdict| verdict.is_lost()).count();
    let doubled = verdicts.iter().filter(|verdict| verdict.is_doubled()).count();
    match (lost, doubled) {
        (0, 0) => None,
        (0, _) => Some(format!("{doubled} actor(s) ran an action more often than it was called")),
        (_, 0) => Some(format!("{lost} actor(s) lost a count that had been acknowledged")),
        _ => Some(format!(
            "{lost} actor(s) lost an acknowledged count, {doubled} ran an action too often"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(acknowledged: u64, tried: u64, found: u64) -> Verdict {
        Verdict { actor: "tern".into(), acknowledged, tried, found }
    }

    #[test]
    fn an_acknowledged_count_that_is_missing_is_lost() {
        let verdict = verdict(10, 11, 9);
        assert!(verdict.to_string().ends_with("LOST 1"), "{verdict}");
        assert!(broken_promises(&[verdict]).unwrap().contains("lost"));
    }

    #[test]
    fn a_call_in_flight_may_be_kept_or_not() {
        assert!(verdict(10, 11, 10).to_string().ends_with("   kept"));
        assert!(verdict(10, 11, 11).to_string().ends_with("with the call in flight"));
        assert_eq!(broken_promises(&[verdict(10, 11, 10), verdict(10, 11, 11)]), None);
    }

    #[test]
    fn an_action_that_ran_more_often_than_called_breaks_the_promise_too() {
        let verdict = verdict(10, 11, 12);
        assert!(verdict.to_string().ends_with("1 TIMES TOO OFTEN"), "{verdict}");
        assert!(broken_promises(&[verdict]).unwrap().contains("more often"));
    }
}
