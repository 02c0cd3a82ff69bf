//! Sealed: traits that only this crate implements.

/// Prevents implementations outside this crate.
pub trait Sealed {}
