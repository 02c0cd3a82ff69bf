//! Query: writes the paths and queries of requests to the proxy.

use std::fmt::{Display, Formatter, Result};

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// A name as a segment of a path, or a value in a query.
pub(super) fn encoded(part: &str) -> PercentEncode<'_> {
    utf8_percent_encode(part, NON_ALPHANUMERIC)
}

/// What follows the question mark.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(String);

impl Query {
    /// Adds a parameter that has a value.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            if !self.0.is_empty() {
                self.0.push('&');
            }
            self.0.extend([name, "="]);
            self.0.extend(encoded(value));
        }
        self
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&self.0)
    }
}
