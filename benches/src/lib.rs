//! Shared code of the benchmarks.
//!
#![doc = include_str!("../README.md")]

pub mod options;
pub mod harness;
pub mod usage;
pub mod counter;
pub mod callers;
pub mod world;
mod forgetful;
pub mod store;
