//! Procfs: CPU time and memory of a process and of the machine, from the kernel.

use std::fs::read_to_string;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// The kernel reports times in hundredths of a second, independent of its own tick.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of all threads of a process, including ended threads.
///
/// # Errors
/// When the process is gone.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat =
        read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    cpu_in(&stat).with_context(|| format!("/proc/{pid}/stat reads {stat:?}"))
}

/// Busy time of all cores since boot, including interrupts and stolen time.
///
/// # Errors
/// When `/proc/stat` cannot be read.
pub fn busy() -> anyhow::Result<Duration> {
    let stat = read_to_string("/proc/stat")?;
    busy_in(&stat).context("/proc/stat has no line for all cores")
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let status =
        read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS line")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// The kind of file system that holds `path`, as `/proc/mounts` names it.
///
/// # Errors
/// When the path does not exist.
pub fn file_system(path: &Path) -> anyhow::Result<String> {
    let path = path.canonicalize()?;
    let mounts = read_to_string("/proc/mounts")?;
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?.to_string(), fields.next()?.to_string());
        path.starts_with(&point).then_some((point.len(), kind))
    };
    Ok(mounts
        .lines()
        .filter_map(mount)
        .max_by_key(|(len, _)| *len)
        .map_or_else(|| "unknown".into(), |m| m.1))
}

fn cpu_in(stat: &str) -> Option<Duration> {
    // The name in parentheses may itself contain spaces and parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

fn busy_in(stat: &str) -> Option<Duration> {
    let fields: Vec<u32> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|field| fields.get(*field)).sum::<u32>();
    Some(TICK * busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_user_and_system_whatever_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 12 0 0";
        assert_eq!(cpu_in(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn busy_time_leaves_idle_and_waiting_out() {
        assert_eq!(busy_in("cpu  100 10 90 9999 999 1 2 3 0 0\ncpu0 1"), Some(TICK * 206));
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(resident(std::process::id()).unwrap() > 0);
    }
}
