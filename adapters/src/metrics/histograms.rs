//! Histograms: samples are counted by bucket when they are recorded (decision 065).
//!
//! A histogram is kept in parts, and a thread adds to one of them, so that threads seldom wait for the same memory. A scrape adds
//! the parts up.

use std::array;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Label, Metadata, Recorder, SharedString,
    Unit,
};
use parking_lot::Mutex;
use tidegate_pipeline::metrics::Kind;

use super::text::{heading, line};

/// Buckets of histograms of time: 50 µs to a minute.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Buckets of histograms of bytes: 256 B to 16 MiB.
const BYTES: &[f64] =
    &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// Buckets of histograms of anything else: counts.
const AMOUNTS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// Buckets of a histogram at most, with the one for larger samples.
const BUCKETS: usize = 20;
const _: () = assert!(SECONDS.len() < BUCKETS && BYTES.len() < BUCKETS && AMOUNTS.len() < BUCKETS);

/// Parts of a histogram. With more threads, some share one.
const PARTS: usize = 8;

/// All histograms of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histograms(Arc<Mutex<BTreeMap<String, Family>>>);

/// The histograms with one name.
#[derive(Debug, Default)]
struct Family {
    help: SharedString,
    /// By their labels as scraped, without braces.
    series: BTreeMap<String, Arc<Samples>>,
}

/// The samples of one histogram.
#[derive(Debug)]
struct Samples {
    /// The largest sample of each bucket, ascending.
    bounds: &'static [f64],
    parts: [Part; PARTS],
}

/// In cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part {
    counts: [AtomicU64; BUCKETS],
    /// The bits of the sum of all samples.
    sum: AtomicU64,
}

impl Histograms {
    /// Writes them as Prometheus reads them.
    pub(crate) fn render(&self, text: &mut String) {
        for (name, family) in &*self.0.lock() {
            if family.series.is_empty() {
                continue;
            }
            heading(text, name, Kind::Histogram, &family.help);
            for (labels, samples) in &family.series {
                samples.render(name, labels, text);
            }
            text.push('\n');
        }
    }

    fn describe(&self, name: &KeyName, help: SharedString) {
        self.0.lock().entry(name.as_str().to_owned()).or_default().help = help;
    }

    fn get_or_add(&self, key: &Key) -> Arc<Samples> {
        let labels: Vec<_> = key.labels().map(label).collect();
        let mut families = self.0.lock();
        let family = families.entry(key.name().to_owned()).or_default();
        let new = || Arc::new(Samples::new(bounds_of(key.name())));
        family.series.entry(labels.join(",")).or_insert_with(new).clone()
    }
}

/// The bounds of a histogram follow from the unit in its name.
fn bounds_of(name: &str) -> &'static [f64] {
    if name.ends_with("_seconds") {
        SECONDS
    } else if name.ends_with("_bytes") {
        BYTES
    } else {
        AMOUNTS
    }
}

fn label(label: &Label) -> String {
    let value = label.value().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{}=\"{value}\"", label.key())
}

impl Samples {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, parts: array::from_fn(|_| Part::default()) }
    }

    fn render(&self, name: &str, labels: &str, text: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for bucket in 0..=self.bounds.len() {
            let of_part = |part: &Part| part.counts[bucket].load(Ordering::Relaxed);
            count += self.parts.iter().map(of_part).sum::<u64>();
            let bound = self.bounds.get(bucket).map_or_else(|| "+Inf".into(), ToString::to_string);
            line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"));
        }
        let of_part = |part: &Part| f64::from_bits(part.sum.load(Ordering::Relaxed));
        let sum: f64 = self.parts.iter().map(of_part).sum();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        line(text, format_args!("{name}_sum{labels} {sum}"));
        line(text, format_args!("{name}_count{labels} {count}"));
    }
}

impl HistogramFn for Samples {
    fn record(&self, sample: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < sample);
        let part = &self.parts[part_of_thread()];
        part.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + sample).to_bits());
        // It goes on until no other thread was faster.
        let _sum = part.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The part that this thread adds to, of every histogram.
fn part_of_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PART: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % PARTS);
    }
    PART.get()
}

/// Keeps histograms here, and counters and gauges in another recorder.
#[derive(Debug)]
pub(crate) struct WithHistograms<R> {
    pub(crate) others: R,
    pub(crate) histograms: Histograms,
}

impl<R: Recorder> Recorder for WithHistograms<R> {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.others.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.others.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.histograms.describe(&name, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.others.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.others.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.histograms.get_or_add(key))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use metrics::{NoopRecorder, counter, histogram, with_local_recorder};

    use super::*;

    fn rendered(record: impl FnOnce()) -> String {
        let histograms = Histograms::default();
        let recorder = WithHistograms { others: NoopRecorder, histograms: histograms.clone() };
        with_local_recorder(&recorder, record);
        let mut text = String::new();
        histograms.render(&mut text);
        text
    }

    #[test]
    fn a_sample_counts_in_each_bucket_that_is_large_enough() {
        let text = rendered(|| {
            metrics::describe_histogram!("saves", "Saves of a commit.");
            let saves = histogram!("saves");
            for sample in [1.0, 1.5, 2.0, 20_000.0] {
                saves.record(sample);
            }
            counter!("calls").increment(1);
        });
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("# HELP saves Saves of a commit."));
        assert_eq!(lines.next(), Some("# TYPE saves histogram"));
        assert_eq!(lines.next(), Some("saves_bucket{le=\"1\"} 1"));
        assert_eq!(lines.next(), Some("saves_bucket{le=\"2\"} 3"));
        assert!(text.contains("\nsaves_bucket{le=\"16384\"} 3\nsaves_bucket{le=\"+Inf\"} 4\n"));
        assert!(text.ends_with("\nsaves_sum 20004.5\nsaves_count 4\n\n"), "{text}");
        assert!(!text.contains("calls"), "{text}");
    }

    #[test]
    fn labels_tell_series_apart_and_are_escaped() {
        let text = rendered(|| {
            let of = |action: &'static str| histogram!("turn_seconds", "system" => "s", "action" => action);
            of("a").record(0.000_07);
            of("a").record(0.1);
            of("b\"\\\n").record(61.0);
        });
        assert!(text.contains("_bucket{system=\"s\",action=\"a\",le=\"0.00005\"} 0\n"), "{text}");
        assert!(text.contains("_bucket{system=\"s\",action=\"a\",le=\"0.0001\"} 1\n"), "{text}");
        assert!(text.contains("_sum{system=\"s\",action=\"a\"} 0.10007\n"), "{text}");
        assert!(text.contains("_count{system=\"s\",action=\"b\\\"\\\\\\n\"} 1\n"), "{text}");
    }

    #[test]
    fn no_sample_of_many_threads_is_lost() {
        let histograms = Histograms::default();
        let key = Key::from_static_name("payload_bytes");
        thread::scope(|scope| {
            for _ in 0..2 * PARTS {
                let samples = histograms.get_or_add(&key);
                scope.spawn(move || (0..10_000).for_each(|_| samples.record(256.0)));
            }
        });
        let mut text = String::new();
        histograms.render(&mut text);
        let count = 2 * PARTS * 10_000;
        assert!(text.contains(&format!("_bucket{{le=\"256\"}} {count}\n")), "{text}");
        assert!(text.contains(&format!("_sum {}\n", 256 * count)), "{text}");
    }
}
