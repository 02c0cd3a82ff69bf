//! What happens to a call, whatever protocol it came by and wherever its state is kept.
//!
//! The modules stand in the order in which a call passes them; [`topology`] joins them.

// The types that all stages use.
pub mod actor;
pub mod identity;
pub mod request_id;
pub mod invocation;
pub mod traces;
pub mod state;
pub mod outbox;
pub mod due;
pub mod schedules;
pub mod history;
pub mod blocked_on;
mod signal;
pub mod reply;
pub mod error;
pub mod last_errors;
pub mod rules;
pub mod access;
// What the stages ask of the outside.
pub mod ports;
pub mod metrics;
mod clock;
mod store_limit;
mod optional;
mod retry_budget;
mod retries;
mod filter;
mod turn_time;
mod hot;
// Who is registered, what is in memory, and what travels from stage to stage.
mod activation;
mod registry;
mod places;
mod call;
// The stages, in the order of the path.
mod caller;
mod placement;
mod admission;
mod respawn;
mod park;
mod path;
mod store_breaker;
mod lookup;
mod invoke;
mod host_breaker;
mod side_effects;
mod checkpoint;
mod egress;
// Beside the path.
mod elsewhere;
mod effects;
mod channels;
pub mod topics;
mod maintenance;
mod eviction;
mod timer;
mod actor_timers;
mod retention;
mod settling;
pub mod history_reader;
pub mod history_stream;
mod control;
// The whole.
pub mod mesh;
pub mod topology;
mod shutdown;
pub mod memory;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
