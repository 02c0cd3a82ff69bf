//! Traces: the settings of OpenTelemetry become what is traced, and where it is sent.

use tidegate_stages::traces::TraceRules;

use super::reader::Reader;
use super::settings::TraceSettings;
use super::{Mistakes, forms, tls};
use crate::traces::{Otlp, Protocol};

impl Reader<'_> {
    /// Reads what is traced, and where it is sent.
    ///
    /// # Errors
    /// When a setting of its TLS lacks another.
    pub(super) fn traces(&self) -> Result<TraceSettings, Mistakes> {
        let endpoint = self.value("OTEL_EXPORTER_OTLP_ENDPOINT").map(ToString::to_string);
        let sampler = self.text("OTEL_TRACES_SAMPLER");
        let (parent_based, root) = match sampler.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, &*sampler),
        };
        let ratio = match root {
            "always_off" => 0.0,
            "traceidratio" => {
                forms::parse_ratio(&self.text("OTEL_TRACES_SAMPLER_ARG")).expect("it was checked")
            }
            _ => 1.0,
        };
        let slow = self.time("TIDEGATE_TRACE_SLOW");
        let protocol = match self.text("OTEL_EXPORTER_OTLP_PROTOCOL").as_str() {
            "grpc" => Protocol::Grpc,
            _ => Protocol::HttpProtobuf,
        };
        let tls = match &endpoint {
            Some(endpoint) => tls::traces(self.0, endpoint)?,
            None => None,
        };
        Ok(TraceSettings {
            rules: TraceRules {
                parent_based,
                ratio,
                failed: self.switch("TIDEGATE_TRACE_FAILED"),
                slow: (!slow.is_zero()).then_some(slow),
                overrides_parent: self.switch("TIDEGATE_TRACE_OVERRIDE_PARENT"),
            },
            otlp: endpoint.map(|endpoint| Otlp {
                endpoint,
                tls,
                protocol,
                timeout: self.time("OTEL_EXPORTER_OTLP_TIMEOUT"),
                service_name: self.text("OTEL_SERVICE_NAME"),
            }),
            kept_calls: self.small("TIDEGATE_KEPT_CALLS") as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::from;

    fn rules(settings: &[(&str, &str)]) -> Option<TraceRules> {
        let given = from(settings).unwrap().settings().unwrap();
        given.traces.otlp.map(|_| given.traces.rules)
    }

    #[test]
    fn samplers_are_those_of_opentelemetry() {
        assert_eq!(rules(&[("OTEL_TRACES_SAMPLER", "always_on")]), None, "no receiver");
        for (sampler, parent_based, ratio) in [
            ("parentbased_always_on", true, 1.0),
            ("parentbased_always_off", true, 0.0),
            ("parentbased_traceidratio", true, 0.25),
            ("always_on", false, 1.0),
            ("always_off", false, 0.0),
            ("traceidratio", false, 0.25),
        ] {
            let rules = rules(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
                ("OTEL_TRACES_SAMPLER", sampler),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ("TIDEGATE_TRACE_SLOW", "0"),
            ]);
            let expected = TraceRules {
                parent_based,
                ratio,
                failed: true,
                slow: None,
                overrides_parent: false,
            };
            assert_eq!(rules, Some(expected), "{sampler}");
        }
    }
}
