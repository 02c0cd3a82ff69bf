//! Store: many at once save to a store and read from it, through the port or straight on its engine.

pub mod crowd;
pub mod keeper;
pub mod ported;
pub mod fjalled;
pub mod cqled;
pub mod history;
