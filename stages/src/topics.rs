//! Durable topics: each event is kept in the log of its topic, and delivered from there to each subscriber, in order.
//!
//! ```text
//! broadcast of an actor ─▶ row of its outbox, in its commit ─▶ deliver ─┐ (recognised: appended once)
//! message of a client ──────────────────────────────────────────────────┴▶ turn of the topic: one revision of its history
//!                                                                              ▼
//!                     subscriber ◀─ one event at a time, in order ◀─ read from its position
//! ```
//! A topic is an actor that nobody registers: its state is its newest event, its history is its log, and what it has seen are
//! the newest effects of its publishers. The positions of its subscribers lie there too. So stores, exports and backups know
//! topics without a table of their own. A stateful subscriber recognises an event that it has answered.

pub(crate) mod append;
pub(crate) mod event;
pub(crate) mod log;
pub(crate) mod delivery;
pub(crate) mod places;
pub mod rules;
pub(crate) mod runner;
pub(crate) mod subscribed;
