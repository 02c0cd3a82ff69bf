//! Usage: CPU time and memory of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// User and system time of all threads of this process, including ended threads, with nanosecond resolution.
///
/// # Panics
/// Never: such a time is not negative.
pub fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).expect("a process never spends less than no time")
}

/// Resident memory of this process, in bytes.
///
/// # Panics
/// When there is no `/proc`.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("so has status");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_cpu_time_and_memory() {
        let before = (cpu(), resident());
        let filled: Vec<u8> = (0..32 << 20).map(|n: u32| n.to_le_bytes()[0] | 1).collect();
        assert!(filled.iter().all(|byte| *byte != 0));
        assert!(cpu() > before.0);
        assert!(resident() > before.1);
    }
}
