//! Top: what the metrics of two moments say of the stages, as tables: for `tidegate top`, and for the demo.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::terminal::{Colours, table};

/// What is scraped at one moment: the value of each series.
#[derive(Debug)]
pub(crate) struct Scraped {
    at: Instant,
    values: BTreeMap<String, f64>,
}

impl Scraped {
    /// Of now, from the text of `/metrics`.
    pub(crate) fn read(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self { at: Instant::now(), values: series.collect() }
    }

    fn of(&self, name: &str, stage: &str) -> f64 {
        let series = format!("tidegate_{name}{{stage=\"{stage}\"}}");
        self.values.get(&series).copied().unwrap_or_default()
    }

    /// How much a counter has grown in a second.
    fn rate(&self, before: &Scraped, name: &str, stage: &str) -> f64 {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        (self.of(name, stage) - before.of(name, stage)) / seconds
    }

    /// The values of a label of a metric.
    fn labels<'a>(&'a self, metric: &str, label: &str) -> Vec<(&'a str, f64)> {
        let (start, label) = (format!("tidegate_{metric}{{"), format!("{label}=\""));
        let found = self.values.iter().filter_map(|(series, value)| {
            let labels = series.strip_prefix(&start)?;
            let text = labels.split_once(&label)?.1;
            Some((text.split_once('"')?.0, *value))
        });
        found.collect()
    }

    /// A table of the stages, with their rates since `before`; and one of what turns wait for now, if any waits.
    pub(crate) fn stages(&self, before: &Scraped, colours: Colours) -> String {
        let row = |stage: &str| {
            let rates = ["demand_asked_total", "demand_granted_total"]
                .map(|name| format!("{:.0}", self.rate(before, name, stage)));
            let counts = ["demand_events", "queued_events", "in_flight_events", "parked_events"]
                .map(|name| format!("{:.0}", self.of(name, stage)));
            let lost = format!("{:.0}", self.rate(before, "backpressure_seconds_total", stage));
            [&[stage.to_owned()], &rates[..], &counts, &[lost]].concat()
        };
        let stages = self.labels("demand_asked_total", "stage");
        let rows: Vec<_> = stages.iter().map(|(stage, _)| row(stage)).collect();
        let title =
            ["STAGE", "ASKED/S", "GRANTED/S", "FREE", "QUEUED", "IN FLIGHT", "PARKED", "LOST S/S"];
        let mut text = table(&title, &rows, colours);
        let mut waits: BTreeMap<&str, f64> = BTreeMap::new();
        for (reason, turns) in self.labels("blocked_turns", "reason") {
            *waits.entry(reason).or_default() += turns;
        }
        let waits = waits.into_iter().filter(|(_, turns)| *turns > 0.5);
        let rows: Vec<_> =
            waits.map(|(reason, turns)| vec![reason.to_owned(), format!("{turns:.0}")]).collect();
        if !rows.is_empty() {
            text += &("\n".to_owned() + &table(&["WAITS FOR", "TURNS"], &rows, colours));
        }
        text
    }
}
