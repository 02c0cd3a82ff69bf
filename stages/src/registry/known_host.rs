//! Known host: what is kept of a host as long as definitions name its address.

use std::sync::Arc;

use tidegate_pipeline::Share;

use crate::places::held::Held;
use crate::registry::reachability::Reachability;
use crate::turn_time::{MeanTurn, TurnTimes};

/// One host; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct KnownHost {
    /// The mean time of the turns that count against its limit.
    pub(crate) mean_turn: MeanTurn,
    /// How long its last turns took.
    pub(crate) turn_times: TurnTimes,
    /// The permits of admission that its calls hold.
    pub(crate) admitted: Arc<Share>,
    /// The places at the checkpoint that its actors hold.
    pub(crate) places: Held,
    /// Whether it accepts connections.
    pub(crate) reachability: Reachability,
}
