//! Table: all metrics of all crates: told to the recorder, and shown in `docs/metrics.md`.

use metrics::Unit;
use tidegate_pipeline::metrics::Described;

use super::text::line;

/// The metrics of each crate, under the heading that they have in `docs/metrics.md`.
const CRATES: [(&str, &[Described]); 4] = [
    ("Flow (every stage)", tidegate_pipeline::metrics::ALL),
    ("Actors", tidegate_stages::metrics::ALL),
    ("Clients, hosts, store and process", super::ALL),
    ("Names of Spawn (`TIDEGATE_SPAWN_METRICS`)", super::spawn::ALL),
];

/// Tells the recorder of this process what all metrics mean.
pub fn describe() {
    CRATES.iter().flat_map(|(_, metrics)| *metrics).for_each(Described::describe);
}

/// All metrics as `docs/metrics.md` shows them.
pub fn markdown() -> String {
    let mut text = String::new();
    for (heading, metrics) in CRATES {
        line(&mut text, format_args!("## {heading}\n"));
        line(&mut text, format_args!("| name | kind | labels | unit | meaning |"));
        line(&mut text, format_args!("| --- | --- | --- | --- | --- |"));
        for metric in metrics {
            let Described { name, kind, labels, help } = metric;
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let unit = match metric.unit() {
                Unit::Seconds => "seconds",
                Unit::Bytes => "bytes",
                _ => "",
            };
            let (kind, labels) = (kind.as_str(), labels.join(", "));
            line(
                &mut text,
                format_args!("| `{name}` | {kind} | {labels} | {unit} | {} |", help.trim()),
            );
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_of_metrics_shows_them_all() {
        let page = include_str!("../../../docs/metrics.md");
        assert!(
            page.contains(markdown().trim()),
            "put the output of `tidegate config --metrics` into docs/metrics.md"
        );
    }

    /// All names of metrics in the sources of a folder.
    fn names_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // The names of metrics stand alone between quotes; other texts that begin so have no underscore or a blank.
                let quoted = text.split('"').skip(1).step_by(2);
                let is_name = |text: &&str| {
                    text.starts_with("tidegate_")
                        && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                };
                found.extend(quoted.filter(is_name).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_name_in_the_code_is_in_the_table_once_and_well_formed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut in_code = BTreeSet::new();
        for part in ["pipeline/src", "stages/src", "adapters/src"] {
            names_in(&root.join(part), &mut in_code);
        }
        // Crates and other names that are no metrics.
        let others =
            ["tidegate_export", "tidegate_pipeline", "tidegate_stages", "tidegate_unsynced"];
        in_code.retain(|name| !others.contains(&name.as_str()));
        let mut in_table = BTreeSet::new();
        for metric in CRATES.iter().flat_map(|(_, metrics)| *metrics) {
            assert!(in_table.insert(metric.name.to_owned()), "{} stands twice", metric.name);
            let is_total = metric.name.ends_with("_total");
            let is_counter = metric.kind == tidegate_pipeline::metrics::Kind::Counter;
            let is_ours = !metric.name.starts_with("spawn_") && !metric.name.starts_with("vm_");
            assert!(!is_ours || is_total == is_counter, "{}: only counters end so", metric.name);
            assert!(metric.help.trim().ends_with('.'), "{} has no sentence", metric.name);
            assert!(!metric.help.contains(['|', '"']), "{}", metric.name);
        }
        // A histogram is scraped as several series.
        let is_part = |name: &str| {
            let mut stems = ["_count", "_sum"].iter().filter_map(|end| name.strip_suffix(end));
            stems.any(|stem| in_table.contains(stem))
        };
        let missing = in_code.difference(&in_table).filter(|name| !is_part(name));
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "not in the tables of metrics.rs: {missing:?}");
        assert!(in_table.len() > 40, "{}", in_table.len());
    }

    #[test]
    fn no_label_grows_with_the_traffic() {
        let bounded = BTreeSet::from([
            "stage", "reason", "outcome", "policy", "what", "part", "route", "status", "means",
            "setting", "version", "depth", "kind", "source", "state",
        ]);
        // Those of Spawn are bounded in number and not there by default.
        let ours = CRATES.iter().take(3).flat_map(|(_, metrics)| *metrics);
        let used = ours.flat_map(|metric| metric.labels);
        let others: BTreeSet<_> = used.copied().collect::<BTreeSet<_>>();
        let others: Vec<_> = others.difference(&bounded).collect();
        assert!(others.is_empty(), "say here why their values are few: {others:?}");
    }
}
