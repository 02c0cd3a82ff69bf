//! What happens to a call, whatever protocol it came by and wherever its state is kept.

pub mod actor;
pub mod invocation;
pub mod state;
pub mod error;
pub mod ports;
pub mod topology;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
