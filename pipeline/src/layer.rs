//! Layers: policies that any stage can wear around its service.
//!
//! Written outermost first with [`tower::ServiceBuilder`], so that the code reads as an event walks:
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use tidegate_pipeline::layer::{ConcurrencyLimitLayer, TimedLayer, TimeoutLayer};
//! use tower::{ServiceBuilder, service_fn};
//!
//! let service = ServiceBuilder::new()
//!     .layer(TimedLayer { stage: "invoke" })
//!     .layer(ConcurrencyLimitLayer::new(64))
//!     .layer(TimeoutLayer::new(Duration::from_secs(30)))
//!     .service(service_fn(|event: u64| async move { Ok::<u64, Infallible>(event + 1) }));
//! # drop(service);
//! ```
//!
//! Retry, rate limit and timing are this crate's; concurrency limit, timeout and load shed are
//! tower's own: [`ConcurrencyLimitLayer`] makes a service unready while so many calls are running
//! (its consumer stops taking events), [`TimeoutLayer`] ends a call with an error after a time,
//! [`LoadShedLayer`] answers a call with an error instead of being unready.

pub mod retry;
mod delays;
pub mod rate_limit;
pub mod timed;

pub use delays::Delays;
pub use rate_limit::{RateLimit, RateLimitError, RateLimitLayer, RateLimitOptions};
pub use retry::{RetryLayer, RetryOptions, RetryPolicy, Retryable};
pub use timed::{Timed, TimedLayer};

pub use tower::limit::{ConcurrencyLimit, ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
pub use tower::load_shed::{LoadShed, LoadShedLayer};
pub use tower::timeout::{Timeout, TimeoutLayer};
