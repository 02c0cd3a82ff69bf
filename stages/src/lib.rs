//! What happens to a call, whatever protocol it came by and wherever its state is kept.
//!
//! The modules stand in the order in which a call walks them; [`topology`] joins them.

// The words.
pub mod actor;
pub mod invocation;
pub mod state;
pub mod history;
pub mod reply;
pub mod error;
// What the rooms ask of the outside.
pub mod ports;
pub mod metrics;
mod clock;
// Who is there.
mod directory;
mod registration;
mod retries;
// The walk.
mod caller;
mod lookup;
mod activation;
mod invoke;
pub mod side_effects;
mod incarnation;
mod store_breaker;
mod checkpoint;
mod egress;
mod retention;
mod worker;
mod timer;
pub mod history_reader;
pub mod topology;
pub mod memory;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
