//! Otlp: how the receiver of traces is reached.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;

/// Where spans are posted over HTTP, below the address of the receiver.
const HTTP_PATH: &str = "/v1/traces";

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf in a POST.
    HttpProtobuf,
}

/// A receiver of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Its address, `http://host:port`.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// How long it may take to take a batch, tries again included.
    pub timeout: Duration,
    /// What the traces say who they are of.
    pub service_name: String,
}

/// The receiver cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
pub struct OtlpError(#[from] ExporterBuildError);

impl Otlp {
    pub(super) fn exporter(&self) -> Result<SpanExporter, OtlpError> {
        // What a receiver refuses for now is sent again, three times at most, within the timeout.
        let retries = RetryPolicy::recommended();
        let endpoint = self.endpoint.trim_end_matches('/');
        let mut exporter = match self.protocol {
            Protocol::Grpc => SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(self.timeout)
                .with_retry_policy(retries)
                .build()?,
            Protocol::HttpProtobuf => SpanExporter::builder()
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_endpoint(format!("{endpoint}{HTTP_PATH}"))
                .with_timeout(self.timeout)
                .with_retry_policy(retries)
                .build()?,
        };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder_empty()
            .with_service_name(self.service_name.clone())
            .with_attribute(version)
            .build();
        exporter.set_resource(&resource);
        Ok(exporter)
    }
}
