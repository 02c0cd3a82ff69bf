//! Process: the memory, processor time, files and threads of this process, under the names that Prometheus has for them. They are read from the
//! kernel at each scrape; a value that cannot be read is left out.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::text::{heading, line};
use super::{
    PROCESS_CPU, PROCESS_FILES, PROCESS_FILES_MOST, PROCESS_RESIDENT, PROCESS_START,
    PROCESS_THREADS, PROCESS_VIRTUAL,
};

/// What is read of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Stat {
    cpu: f64,
    threads: f64,
    /// Since the machine was started.
    started: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// Reads a line of `/proc/self/stat`. The name in it may hold anything, so what follows its last bracket is counted.
    fn parse(line: &str, ticks: f64, page: f64) -> Option<Self> {
        let fields = line.get(line.rfind(')')? + 1..)?;
        let fields: Vec<f64> = fields.split_whitespace().skip(1).map(number).collect();
        // Field 4 of proc_pid_stat(5) is the first here.
        let field = |place: usize| fields.get(place - 4).copied();
        Some(Self {
            cpu: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            started: field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

/// Bytes of memory that the process has in use.
#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn resident_bytes() -> Option<f64> {
    let line = fs::read_to_string("/proc/self/stat").ok()?;
    let stat = Stat::parse(&line, clock_ticks_per_second() as f64, page_size() as f64)?;
    Some(stat.resident_bytes)
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_default()
}

/// Appends the metrics of this process to a scrape. They are not kept in the recorder, whose counters hold whole numbers.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^52 nobody counts single bytes")]
pub(crate) fn render(text: &mut String) {
    let (ticks, page) = (clock_ticks_per_second() as f64, page_size() as f64);
    let line = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(stat) = Stat::parse(&line, ticks, page) {
        write(text, PROCESS_CPU, stat.cpu);
        write(text, PROCESS_THREADS, stat.threads);
        write(text, PROCESS_VIRTUAL, stat.virtual_bytes);
        write(text, PROCESS_RESIDENT, stat.resident_bytes);
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        if let Some(booted) = machine.lines().find_map(|line| line.strip_prefix("btime ")) {
            write(text, PROCESS_START, number(booted) + stat.started);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One of them is this directory.
        write(text, PROCESS_FILES, files.count().saturating_sub(1) as f64);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        write(text, PROCESS_FILES_MOST, most as f64);
    }
}

fn write(text: &mut String, name: &str, value: f64) {
    let Some(metric) = super::ALL.iter().find(|metric| metric.name == name) else { return };
    heading(text, name, metric.kind, metric.help);
    line(text, format_args!("{name} {value}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_name_of_the_program_is() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 3 0 1000 8192 2 18446744073709551615 1";
        let read = Stat::parse(line, 100.0, 4096.0).unwrap();
        let expected = Stat {
            cpu: 3.0,
            threads: 3.0,
            started: 10.0,
            virtual_bytes: 8192.0,
            resident_bytes: 8192.0,
        };
        assert_eq!(read, expected);
        assert_eq!(Stat::parse("7 (cut", 100.0, 4096.0), None);
        assert_eq!(Stat::parse("7 (cut) S 1 2", 100.0, 4096.0), None);
    }

    #[test]
    fn all_that_is_known_of_this_process_is_shown() {
        let mut text = String::new();
        render(&mut text);
        let values: Vec<(&str, f64)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(name, _)| *name != "#")
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        for name in super::super::ALL.iter().map(|metric| metric.name) {
            if name.starts_with("process_") {
                let value = values.iter().find(|(found, _)| *found == name);
                assert!(value.is_some_and(|(_, value)| *value >= 0.0), "{name}: {values:?}");
            }
        }
        let of = |name| values.iter().find(|(found, _)| *found == name).unwrap().1;
        assert!(of(PROCESS_RESIDENT) > 1e6 && of(PROCESS_START) > 1.5e9, "{values:?}");
        assert!(of(PROCESS_FILES) >= 3.0 && of(PROCESS_THREADS) >= 1.0, "{values:?}");
    }
}
