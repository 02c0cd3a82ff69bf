//! Described: name, kind, labels and meaning of a metric, written once: in the code, at `/metrics` and in `docs/metrics.md`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Its name as scraped.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means; blanks around it do not count.
    pub help: &'static str,
}

/// How the values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They come and go.
    Gauge,
    /// They are counted in buckets.
    Histogram,
}

impl Kind {
    /// Its name as scraped.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl Described {
    /// Its unit, which its name ends with.
    pub fn unit(&self) -> Unit {
        let name = self.name.trim_end_matches("_total");
        if name.ends_with("_seconds") {
            Unit::Seconds
        } else if name.ends_with("_bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        }
    }

    /// Tells the recorder of this process what it means.
    pub fn describe(&self) {
        let (name, unit, help) = (self.name, self.unit(), self.help.trim());
        match self.kind {
            Kind::Counter => describe_counter!(name, unit, help),
            Kind::Gauge => describe_gauge!(name, unit, help),
            Kind::Histogram => describe_histogram!(name, unit, help),
        }
    }
}

/// Makes a constant of each name, with what it means, and the list `ALL` of them.
#[macro_export]
macro_rules! described {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident = $scraped:literal $({$($label:ident),+})?;)*) => {
        $(
            $(#[doc = $help])+
            pub const $name: &str = $scraped;
        )*
        /// Every metric above.
        pub const ALL: &[$crate::metrics::Described] = &[$(
            $crate::metrics::Described {
                name: $name,
                kind: $crate::metrics::Kind::$kind,
                labels: &[$($(stringify!($label)),+)?],
                help: concat!($($help),+),
            }
        ),*];
    };
}
