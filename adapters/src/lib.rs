//! Adapters of Tidegate: protocols, disks and databases, one folder each.

#![warn(
    clippy::print_stderr,
    reason = "`eprintln!` panics when stderr is gone and waits for its reader: log, or say"
)]

pub mod cli;
mod doctor;
mod top;
mod terminal;
pub mod config;
pub mod app;
pub mod telemetry;
mod log;
pub mod reload;
pub mod policies;
mod byte_bound;
mod limited;
mod runbook;
pub mod clock;
pub mod moment;
pub mod audit;
pub mod net;
pub mod tls;
pub mod ingress;
pub mod wire;
pub mod host;
pub mod nats;

#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated code")]
pub mod proto;

#[cfg(feature = "demo")]
pub mod demo;
pub mod metrics;
pub mod traces;
pub mod store;
pub mod offline;

#[cfg(test)]
mod fuzz;
