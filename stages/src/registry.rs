//! Registry: who is registered, and what is in memory of each.

pub(crate) mod entry;
pub(crate) mod known_host;
pub(crate) mod hosts;
pub(crate) mod reachability;
pub(crate) mod live_set;
mod kept_keys;
pub(crate) mod subscribers;
pub(crate) mod pauses;
pub(crate) mod pools;
pub(crate) mod directory;
mod plan;
pub(crate) mod capacity;
pub(crate) mod change;
mod round;
mod in_doubt;
pub(crate) mod key_look;
pub(crate) mod kept_rows;
mod warm_up;
pub(crate) mod storing;
pub(crate) mod registration;
