//! The outside world of Tidegate, one folder per wall.

pub mod clock;
pub mod net;
pub mod wire;
pub mod ingress;
pub mod host;
pub mod config;

/// Messages of the protocol and of the store, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated code")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}
