//! A control group with a memory limit, version 1 or 2, for one process. Making one takes the rights of root.

use std::fs;
use std::path::{Path, PathBuf};

/// A control group; removed when this is dropped, after its process has ended.
pub(crate) struct Group {
    directory: PathBuf,
    is_v2: bool,
}

impl Group {
    /// Makes a group with this limit.
    pub(crate) fn new(name: &str, limit_bytes: u64) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_memory = |line: &str| {
            let (mounted, kind) = line.split_once(" - ")?;
            let point = mounted.split(' ').nth(4)?;
            let is_v1 = kind.starts_with("cgroup ")
                && kind.rsplit(' ').next()?.split(',').any(|option| option == "memory");
            let controllers = Path::new(point).join("cgroup.controllers");
            let is_v2 = kind.starts_with("cgroup2 ")
                && fs::read_to_string(controllers).is_ok_and(|all| all.contains("memory"));
            (is_v1 || is_v2).then(|| (PathBuf::from(point), is_v2))
        };
        let (mount, is_v2) = mounts.lines().find_map(of_memory).expect(
            "this suite needs a control group hierarchy that counts memory, of version 1 or 2",
        );
        if is_v2 {
            // It may be delegated already; the limit below tells.
            drop(fs::write(mount.join("cgroup.subtree_control"), "+memory"));
        }
        let directory = mount.join(format!("tidegate-{name}-{}", std::process::id()));
        let group = Self { directory, is_v2 };
        let limit = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::create_dir(&group.directory)
            .and_then(|()| fs::write(group.directory.join(limit), limit_bytes.to_string()))
            .unwrap_or_else(|error| {
                panic!("this suite needs to make control groups in {}: {error}", mount.display())
            });
        if is_v2 {
            // Where there is no swap, there is no such file.
            drop(fs::write(group.directory.join("memory.swap.max"), "0"));
        }
        group
    }

    /// A command line that runs a program in this group.
    pub(crate) fn runs(&self, program: &str) -> String {
        format!("echo $$ > '{}/cgroup.procs' && exec '{program}' serve", self.directory.display())
    }

    /// How many of its processes were killed for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.expect("the kernel counts kills").trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel refuses as long as it has processes.
        if let Err(error) = fs::remove_dir(&self.directory) {
            eprintln!("{} is left: {error}", self.directory.display());
        }
    }
}
