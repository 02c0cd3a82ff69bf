//! Memory: how much this process may use, for bounds in bytes.
//!
//! A control group limits its own processes and those of the groups below it. So the limits of the process's group and of all
//! its ancestors apply; the smallest counts, and no group gives more than the machine has.

use std::fs;
use std::path::{Path, PathBuf};

/// Assumed when neither a control group nor the machine reports a size.
const ASSUMED_BYTES: u64 = 1 << 30;

/// The smallest limit of the process's control groups, or the machine's memory, whichever is less.
pub(super) fn limit_bytes() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let of_groups = || {
        let cgroup = read(Path::new("/proc/self/cgroup"))?;
        let mountinfo = read(Path::new("/proc/self/mountinfo"))?;
        least(&cgroup, &mountinfo, read)
    };
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    of_groups().into_iter().chain(machine).min().unwrap_or(ASSUMED_BYTES)
}

/// The smallest limit of these control groups, read from their files with `read`.
fn least(cgroup: &str, mountinfo: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = files(cgroup, mountinfo).into_iter().filter_map(|path| read(&path));
    // Version 2 says `max` for no limit; version 1 says a number larger than any memory.
    limits.filter_map(|text| text.trim().parse().ok()).min()
}

/// The files that hold the limits of the process's group and of its ancestors, as far as they are mounted.
fn files(cgroup: &str, mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(Mount::read).flat_map(|mount| mount.files(cgroup)).collect()
}

/// A hierarchy of control groups that counts memory.
#[derive(Debug)]
struct Mount {
    /// The group that is mounted: in a container it is often the container's own.
    root: PathBuf,
    point: PathBuf,
    is_v2: bool,
}

impl Mount {
    /// Reads a line of `/proc/self/mountinfo`: `36 32 0:32 ROOT POINT OPTIONS … - TYPE SOURCE SUPER-OPTIONS`.
    fn read(line: &str) -> Option<Self> {
        let (mounted, file_system) = line.split_once(" - ")?;
        let mut mounted = mounted.split(' ').skip(3);
        let (root, point) = (unescaped(mounted.next()?), unescaped(mounted.next()?));
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?;
        let options = file_system.nth(1).unwrap_or_default();
        let is_v2 = kind == "cgroup2";
        let is_v1 = kind == "cgroup" && options.split(',').any(|option| option == "memory");
        (is_v2 || is_v1).then_some(Self { root, point, is_v2 })
    }

    fn files(&self, cgroup: &str) -> Vec<PathBuf> {
        let Some(group) = self.group(cgroup) else { return Vec::new() };
        let below = match group.strip_prefix(&self.root) {
            Ok(below) => below,
            // A name space of control groups hides where its own root lies: the mounted part is taken for it.
            Err(_) if group == Path::new("/") || group.starts_with("/..") => Path::new(""),
            // Somebody else's groups.
            Err(_) => return Vec::new(),
        };
        let file = if self.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        below.ancestors().map(|group| self.point.join(group).join(file)).collect()
    }

    /// The process's group in this hierarchy. A line of `/proc/self/cgroup` reads `ID:CONTROLLERS:GROUP`, in version 2 `0::GROUP`.
    fn group<'a>(&self, cgroup: &'a str) -> Option<&'a Path> {
        cgroup.lines().find_map(|line| {
            let (id, line) = line.split_once(':')?;
            let (controllers, group) = line.split_once(':')?;
            let is_this = if self.is_v2 {
                id == "0" && controllers.is_empty()
            } else {
                controllers.split(',').any(|controller| controller == "memory")
            };
            is_this.then_some(Path::new(group))
        })
    }
}

/// A path of `mountinfo`, in which blanks and backslashes are written in octal.
fn unescaped(path: &str) -> PathBuf {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\").into()
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_MOUNT: &str = "24 22 0:23 / /proc rw,nosuid - proc proc rw
35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
36 24 0:31 / /sys/fs/pstore rw,nosuid shared:10 - pstore pstore rw";
    const V1_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
    const V1_GROUPS: &str = "9:name=systemd:/user.slice
5:memory:/jobs/a b/17
2:cpu,cpuacct:/
";

    fn paths(cgroup: &str, mountinfo: &str) -> Vec<String> {
        files(cgroup, mountinfo).into_iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_group_of_version_2_and_its_ancestors_are_found() {
        let group = "0::/system.slice/tidegate.service\n";
        let expected = [
            "/sys/fs/cgroup/system.slice/tidegate.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(paths(group, V2_MOUNT), expected);
    }

    #[test]
    fn a_nested_group_of_version_1_is_found_by_its_controller() {
        let expected = [
            "/sys/fs/cgroup/memory/jobs/a b/17/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/jobs/a b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        assert_eq!(paths(V1_GROUPS, V1_MOUNTS), expected);
    }

    #[test]
    fn where_both_versions_are_mounted_both_are_read() {
        let mounts = format!(
            "{V1_MOUNTS}\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
        );
        let groups = "4:memory:/process\n1:cpu:/\n0::/\n";
        let expected = [
            "/sys/fs/cgroup/memory/process/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/unified/memory.max",
        ];
        assert_eq!(paths(groups, &mounts), expected);
    }

    /// As a unit of systemd sees it, with `MemoryMax=512M`: version 2 (Debian 12), and both versions (Ubuntu 20.04).
    #[test]
    fn the_limit_of_a_unit_of_systemd_counts() {
        let unit = "/system.slice/tidegate.service";
        let v2 = "25 30 0:23 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
34 29 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot";
        let hybrid = "33 25 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
34 33 0:30 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
35 33 0:31 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
41 33 0:37 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:19 - cgroup cgroup rw,memory";
        let hybrid_groups = format!(
            "8:memory:{unit}\n3:cpu,cpuacct:/system.slice\n1:name=systemd:{unit}\n0::{unit}\n"
        );
        let limits = |path: &Path| match path.to_str()? {
            "/sys/fs/cgroup/system.slice/tidegate.service/memory.max" => Some("536870912\n".into()),
            "/sys/fs/cgroup/system.slice/memory.max" => Some("max\n".into()),
            "/sys/fs/cgroup/memory/system.slice/tidegate.service/memory.limit_in_bytes" => {
                Some("536870912\n".into())
            }
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("9223372036854771712\n".into()),
            _ => None,
        };
        assert_eq!(least(&format!("0::{unit}\n"), v2, limits), Some(512 << 20));
        assert_eq!(least(&hybrid_groups, hybrid, limits), Some(512 << 20));
    }

    #[test]
    fn limits_of_somebody_else_that_are_mounted_do_not_count() {
        let mounts = format!(
            "{V2_MOUNT}\n90 35 0:30 /other.slice /srv/other rw,relatime - cgroup2 cgroup2 rw"
        );
        let own = ["/sys/fs/cgroup/a.slice/memory.max", "/sys/fs/cgroup/memory.max"];
        assert_eq!(paths("0::/a.slice\n", &mounts), own);
    }

    #[test]
    fn in_a_container_its_own_group_is_the_root_of_the_mount() {
        let (docker, group) = ("/docker/4f1d", "7:memory:/docker/4f1d/inner\n");
        let mounts = format!(
            "812 805 0:33 {docker} /sys/fs/cgroup/memory ro,nosuid,relatime master:15 - cgroup cgroup rw,memory"
        );
        let own = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(
            paths(group, &mounts),
            ["/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", own]
        );
        assert_eq!(paths("7:memory:/docker/4f1d\n", &mounts), [own]);
        // In a cgroup namespace, the path does not contain the mount's root.
        assert_eq!(paths("7:memory:/\n", &mounts), [own]);
        assert_eq!(paths("7:memory:/../other\n", &mounts), [own]);
        assert_eq!(paths("0::/\n", V2_MOUNT), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn the_smallest_limit_counts_and_none_is_none() {
        let files = |path: &Path| {
            let text = match path.to_str()? {
                "/sys/fs/cgroup/memory/jobs/a b/17/memory.limit_in_bytes" => {
                    "9223372036854771712\n"
                }
                "/sys/fs/cgroup/memory/jobs/a b/memory.limit_in_bytes" => "536870912\n",
                "/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes" => "268435456\n",
                "/sys/fs/cgroup/s/memory.max" => "max\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(least(V1_GROUPS, V1_MOUNTS, files), Some(256 << 20));
        assert_eq!(least("0::/s\n", V2_MOUNT, files), None);
        assert_eq!(least("", "", files), None);
    }

    #[test]
    fn the_machine_says_how_much_it_has() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:        2048 kB\n"), Some(2 << 20));
        assert_eq!(total("nothing"), None);
        assert!(limit_bytes() > 0);
    }
}
