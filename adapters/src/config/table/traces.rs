//! Traces: what is told to OpenTelemetry. The names that OpenTelemetry has for a setting are used.

use super::{Default, MINUTE, Setting, setting};
use crate::config::forms;
use crate::config::value::Kind;

/// In the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        Kind::Form("http://host:port or https://host:port", forms::http_address),
        Default::Unset,
        "Where traces are sent, over OTLP. Unset: no call is traced.",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        Kind::Choice(&["http/protobuf", "grpc"]),
        Default::Is("http/protobuf"),
        "How traces are sent.",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        Kind::Text,
        Default::Unset,
        "A PEM file with the roots of the receiver's certificate, for https; unset: those that the system trusts.",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        Kind::Text,
        Default::Unset,
        "A PEM file with the certificate that is shown to a receiver that asks for one.",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        Kind::Text,
        Default::Unset,
        "A PEM file with its key.",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        Kind::Time { min: 100, max: MINUTE },
        Default::Is("10s"),
        "How long the receiver may take to take a batch of spans, three more tries included; then they are dropped and counted.",
    ),
    setting(
        "OTEL_SERVICE_NAME",
        Kind::Text,
        Default::Is("tidegate"),
        "The service that traces say they are of.",
    ),
    setting(
        "OTEL_TRACES_SAMPLER",
        Kind::Choice(&[
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
            "always_on",
            "always_off",
            "traceidratio",
        ]),
        Default::Is("parentbased_always_on"),
        "Which calls are sampled. parentbased_…: as the caller's traceparent says; the rest decides where there is none.",
    ),
    setting(
        "OTEL_TRACES_SAMPLER_ARG",
        Kind::Form("a number from 0 to 1", forms::ratio),
        Default::Is("1"),
        "The part of calls that the samplers with traceidratio sample.",
    ),
    setting(
        "TIDEGATE_TRACE_FAILED",
        Kind::Switch,
        Default::Is("true"),
        "Whether calls that fail are traced although they are not sampled.",
    ),
    setting(
        "TIDEGATE_TRACE_SLOW",
        Kind::Time { min: 0, max: 60 * MINUTE },
        Default::Is("1s"),
        "From which duration on calls are traced although they are not sampled. 0: never.",
    ),
    setting(
        "TIDEGATE_TRACE_OVERRIDE_PARENT",
        Kind::Switch,
        Default::Is("false"),
        "Whether these two also count for calls whose traceparent says that they are not sampled.",
    ),
    setting(
        "TIDEGATE_KEPT_CALLS",
        Kind::Count { min: 0, max: 100_000 },
        Default::Is("1000"),
        "Failed and slow calls that are kept in memory for `tidegate explain`, the newest ones, with the times of their stages; and as many that are sampled. Each takes about 2 KiB. 0: none is kept, and calls are not followed.",
    ),
];
