//! Store: concurrent workers save to and read from a store, through the port or directly on its engine.

pub mod workload;
pub mod storage;
pub mod ported;
pub mod bare_fjall;
pub mod bare_cql;
pub mod history;
