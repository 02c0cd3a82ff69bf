//! Traces: what a call tells of itself to OpenTelemetry.

pub mod context;
