//! Layers: policies that any stage can wear around its service.
//!
//! Write them outermost first with [`tower::ServiceBuilder`], so that the code reads in the order in
//! which an event passes them:
//!
//! ```
//! use std::convert::Infallible;
//! use std::num::NonZeroU32;
//! use std::time::Duration;
//! use tidegate_pipeline::layer::{RateLimitLayer, RateLimitOptions, TimedLayer};
//! use tower::{ServiceBuilder, service_fn};
//!
//! let limit = RateLimitOptions {
//!     calls: NonZeroU32::MIN.saturating_add(99),
//!     period: Duration::from_secs(1),
//!     burst: NonZeroU32::MIN.saturating_add(9),
//!     max_keys: 10_000,
//! };
//! let service = ServiceBuilder::new()
//!     .layer(TimedLayer { stage: "invoke" })
//!     .layer(RateLimitLayer::new(limit, |event: &u64| Some(event % 100)))
//!     .service(service_fn(|event: u64| async move { Ok::<u64, Infallible>(event + 1) }));
//! # drop(service);
//! ```
//!
//! This crate has three layers: rate limit, retry and timing. tower has more, and a stage wears them
//! in the same way: with `ConcurrencyLimitLayer` a service is not ready while too many calls run, so
//! its consumer takes no more events; `TimeoutLayer` ends a call with an error after a time.

pub mod retry;
mod delays;
pub mod rate_limit;
pub mod timed;

pub use delays::Delays;
pub use rate_limit::{RateLimit, RateLimitError, RateLimitLayer, RateLimitOptions};
pub use retry::{RetryLayer, RetryOptions, RetryPolicy, Retryable};
pub use timed::{Timed, TimedLayer};
