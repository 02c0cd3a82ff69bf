//! Store: concurrent workers save to and read from a store, through the port or directly on its engine.

pub mod crowd;
pub mod keeper;
pub mod ported;
pub mod fjalled;
pub mod cqled;
pub mod history;
