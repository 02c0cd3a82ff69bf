//! Namespace: tests that run in their own process, some in their own mount namespace.
//!
//! Such a test is `#[ignore]`d; another test starts it by name.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs an ignored test of this binary in a process of its own.
pub(crate) fn run_alone(name: &str) {
    run(Command::new(this()), name);
}

/// The same in a mount namespace, in a working directory that is a device in memory, of this size (`24m`).
///
/// As any user where user namespaces are allowed, else as root.
pub(crate) fn run_on_device(size: &str, name: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = format!("mount -t tmpfs -o size={size} none \"$0\" && cd \"$0\"");
    let rights: [&[&str]; 2] = [&["--user", "--map-root-user"], &[]];
    let permits = |rights: &&&[&str]| {
        let mut mounting = unshare(rights, &mount, directory.path());
        mounting.status().is_ok_and(|status| status.success())
    };
    let rights = rights
        .iter()
        .find(permits)
        .expect("root, or a kernel with user namespaces, to mount a small device");
    let mut command = unshare(rights, &format!("{mount} && exec \"$@\""), directory.path());
    command.arg(this());
    run(command, name);
}

/// This binary.
pub(crate) fn this() -> PathBuf {
    std::env::current_exe().expect("this binary has a path")
}

/// A shell with a mount namespace of its own, and what else these rights say; `$0` is the directory.
pub(crate) fn unshare(rights: &[&str], script: &str, directory: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(rights).args(["--mount", "sh", "-c", script]).arg(directory);
    command
}

/// Runs a command that starts an ignored test by its name.
pub(crate) fn run(mut command: Command, name: &str) {
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    eprintln!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{name} failed");
}
