//! The built binary as a tool: run to its end, or killed before.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::proxy::BINARY;

/// How long a run may take.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None`: it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What it said on stdout, given that it went well.
    pub(crate) fn said(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// What it said on stderr, given that it ended with this code.
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// `tidegate` without the settings of whoever runs the tests.
pub(super) fn bare() -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear();
    for inherited in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(inherited) {
            command.env(inherited, value);
        }
    }
    command
}

/// Starts `tidegate` with these arguments and settings; dropping the child kills it.
pub(crate) fn begin(args: &[&str], settings: &[(&str, &str)]) -> Child {
    let mut command = bare();
    command
        .args(args)
        .env("PROXY_HTTP_PORT", "0")
        .env("TIDEGATE_HTTP_ADDRESS", "127.0.0.1")
        .env("TIDEGATE_ADMIN_ADDRESS", "off")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().expect("the binary starts")
}

/// Waits for its end.
pub(crate) async fn end(child: Child) -> Ran {
    let output = timeout(RUN_LIMIT, child.wait_with_output()).await;
    let output = output.expect("it ends within its limit").expect("it can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs `tidegate` with these arguments and settings.
pub(crate) async fn run(args: &[&str], settings: &[(&str, &str)]) -> Ran {
    end(begin(args, settings)).await
}

/// The settings of an embedded store in a directory.
pub(crate) fn store_in(directory: &Path) -> Vec<(&str, &str)> {
    let directory = directory.to_str().expect("a readable path");
    vec![("PROXY_DATABASE_TYPE", "embedded"), ("TIDEGATE_DATA_DIR", directory)]
}
