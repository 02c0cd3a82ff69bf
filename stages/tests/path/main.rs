//! A call on its path through the stages.

#[path = "../support/mod.rs"]
mod support;
mod calls;
mod drain;
mod ends;
mod order;
mod registered;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::{Definition, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{Invocation, Payload, Routing};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StoreError};
use tidegate_stages::reply::Deadlines;
use tidegate_stages::rules::Durability;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep};

fn refused() -> HostError {
    HostError::Connect { address: "h".into(), reason: "connection refused".into() }
}
