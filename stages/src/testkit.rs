//! Testkit: ports that fail on command, and the checks that every store must pass.
#![allow(clippy::missing_panics_doc, reason = "a failed check panics: that is its answer")]

pub mod broker;
pub mod clock;
pub mod faulty;
pub mod recognition;
pub mod conformance;
