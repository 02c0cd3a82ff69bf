//! Store breaker: refuses stateful calls while the store fails.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::ports::StoreError;

/// Keeps stateful calls from a store that just failed, so that no action runs whose state is lost.
#[derive(Debug, Default)]
pub(crate) struct StoreBreaker(Mutex<Option<(Instant, Duration, StoreError)>>);

/// How long a failing store is left alone at first.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long it is left alone at most.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl StoreBreaker {
    /// Why stateful calls are refused now, and when to come back.
    pub(crate) fn refusal(&self) -> Option<(StoreError, Duration)> {
        let held = self.0.lock();
        let (opens, _, error) = held.as_ref()?;
        let left = opens.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (error.clone(), left))
    }

    /// Notes that the store failed. Stateful calls are refused for a while, longer each time, until it works again.
    pub(crate) fn record_failure(&self, error: &StoreError) {
        if matches!(error, StoreError::Fenced(_) | StoreError::TooLarge(_) | StoreError::Sealed(_))
        {
            // That is one actor's matter.
            return;
        }
        let mut held = self.0.lock();
        let pause = match &*held {
            Some((opens, pause, _)) if *opens > Instant::now() => *pause,
            Some((_, pause, _)) => (*pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        if held.is_none() {
            error!(%error, "the state store fails; stateful calls are refused until it works again");
        }
        *held = Some((Instant::now() + pause, pause, error.clone()));
    }

    /// Notes that the store works: nothing is refused any more.
    pub(crate) fn record_success(&self) {
        let mut held = self.0.lock();
        if held.take().is_some() {
            info!("the state store works again");
        }
    }
}
