//! Table: medians and spreads over the rounds, for people.

use std::fmt;
use std::io::{self, Write};

use super::bench::{Bench, Target};
use super::measure::Measured;

/// One target, all rounds.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) target: Target,
    pub(super) rounds: Vec<Measured>,
}

/// The value of a round in one line of the table.
type Metric = fn(&Measured) -> f64;

/// Median, lowest and highest of some rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Row {
    pub(super) fn new(target: Target) -> Self {
        Self { target, rounds: Vec::new() }
    }

    fn spread(&self, value: impl Fn(&Measured) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(value).collect())
    }

    /// CPU per call divided by that of another row, round by round.
    fn ratio(&self, reference: &Self) -> Spread {
        let rounds = self.rounds.iter().zip(&reference.rounds);
        Spread::of(rounds.map(|(own, other)| own.cpu_us / other.cpu_us).collect())
    }
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(&lowest), Some(&highest)) = (values.first(), values.last()) else {
            return Self { median: f64::NAN, lowest: f64::NAN, highest: f64::NAN };
        };
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median: f64::midpoint(low, high), lowest, highest }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(match self.median {
            median if median >= 1000.0 => 0,
            median if median >= 10.0 => 1,
            _ => 2,
        });
        let Self { median, lowest, highest } = self;
        write!(f, "{median:.digits$} ({lowest:.digits$}–{highest:.digits$})")
    }
}

/// Formats one measurement as one line.
pub(super) fn line(measured: &Measured) -> String {
    format!(
        "{:.0} calls/s, p99 {:.2} ms, CPU {:.1} µs/call (host {:.1}, client {:.1}), {:.2} cores used by others",
        measured.report.per_second,
        measured.report.latency.p99_ms,
        measured.cpu_us,
        measured.host_cpu_us,
        measured.client_cpu_us,
        measured.others_cores
    )
}

/// Prints the whole comparison, as median (lowest–highest round).
pub(super) fn write(out: &mut impl Write, bench: &Bench, rows: &[Row]) -> io::Result<()> {
    let args = &bench.args;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    writeln!(
        out,
        "{} connections, {} actors, {}-byte state, {} rounds of {} s, {cores} cores shared with client and host, data on {}",
        args.connections,
        args.actors,
        args.state_bytes,
        args.rounds,
        args.seconds,
        bench.file_system
    )?;
    if bench.file_system == "tmpfs" {
        writeln!(
            out,
            "warning: syncing a tmpfs costs nothing; durable figures need a disk (--data-dir)"
        )?;
    }
    let reference = rows.iter().find(|row| row.target == Target::Reference);
    let metrics: [(&str, Metric); 8] = [
        ("calls/s", |m| m.report.per_second),
        ("p50 ms", |m| m.report.latency.p50_ms),
        ("p99 ms", |m| m.report.latency.p99_ms),
        ("p99.9 ms", |m| m.report.latency.p999_ms),
        ("CPU µs/call", |m| m.cpu_us),
        ("host CPU µs/call", |m| m.host_cpu_us),
        ("resident MiB", |m| m.resident_mib),
        ("others' cores", |m| m.others_cores),
    ];
    write!(out, "{:<18}", "median (range)")?;
    for row in rows {
        write!(out, "{:>28}", row.target.name())?;
    }
    writeln!(out)?;
    for (name, metric) in metrics {
        write!(out, "{name:<18}")?;
        for row in rows {
            write!(out, "{:>28}", row.spread(metric).to_string())?;
        }
        writeln!(out)?;
    }
    if let Some(reference) = reference {
        write!(out, "{:<18}", "CPU to reference")?;
        for row in rows {
            write!(out, "{:>28}", row.ratio(reference).to_string())?;
        }
        writeln!(out)?;
        write_shares(out, rows, reference)?;
    }
    for row in rows.iter().filter(|row| row.target == Target::Tidegate("acknowledged")) {
        writeln!(out, "durable invocations a second: {}", row.spread(|m| m.report.per_second))?;
    }
    Ok(())
}

/// Prints, for each durability, what Tidegate's own work costs as a share of what it cost before: CPU beyond that of the
/// reference, round by round.
fn write_shares(out: &mut impl Write, rows: &[Row], reference: &Row) -> io::Result<()> {
    for row in rows {
        let Target::Tidegate(durability) = row.target else { continue };
        let Some(before) = rows.iter().find(|other| other.target == Target::Before(durability))
        else {
            continue;
        };
        let rounds = row.rounds.iter().zip(&before.rounds).zip(&reference.rounds);
        let share = Spread::of(
            rounds
                .map(|((own, old), base)| (own.cpu_us - base.cpu_us) / (old.cpu_us - base.cpu_us))
                .collect(),
        );
        writeln!(out, "{durability}: CPU beyond the reference, as a share of before: {share}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_between_the_extremes() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, lowest: 1.0, highest: 3.0 });
        assert_eq!(Spread::of(vec![1.0, 2.0]).median.to_string(), "1.5");
        assert_eq!(Spread::of(vec![1234.4, 999.0, 2000.0]).to_string(), "1234 (999–2000)");
    }
}
