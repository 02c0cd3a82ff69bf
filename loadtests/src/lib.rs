//! Black-box load tests: call a proxy over its public protocol; count, time and check every response.
//!
//! This crate depends on no other crate of Tidegate.
//!
#![doc = include_str!("../README.md")]
#![allow(missing_docs, reason = "a tool: its reader starts at the binaries and their --help")]

pub mod listen;
pub mod counter;
pub mod host;
pub mod receiver;
pub mod bare_proxy;
pub mod faulty_proxy;
pub mod register;
pub mod dialect;
pub mod client;
pub mod ledger;
pub mod schedule;
pub mod recorder;
pub mod report;
pub mod drive;
pub mod progress;
pub mod process;
pub mod procfs;
pub mod compare;

/// Messages of the public protocol, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated code")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}
