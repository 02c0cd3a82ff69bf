//! Child: a process of the demo, from the line with its address to its end.
//!
//! Children have their own environment (a user's setting must not change the demo) and their own process
//! group (the demo handles Ctrl-C), and die with the demo.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Take};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

/// How long a child may take to listen; a proxy reads its state first.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a killed process may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How many bytes of a child's standard output are searched for its address.
const STDOUT_LIMIT_BYTES: u64 = 4_096;
/// Text before the address.
const LISTENING: &str = "listening on http://";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// The sample user function.
    Host,
    /// The proxy.
    Proxy,
}

impl Part {
    /// Returns the name in the demo's output, in files and on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Host => "host",
            Part::Proxy => "proxy",
        }
    }

    /// Returns the path of the log, below the demo's directory.
    pub(super) fn log(self, directory: &Path) -> PathBuf {
        directory.join(self.name()).with_extension("log")
    }
}

/// A running child. A drop kills it; [`Child::kill`] also waits for its end.
#[derive(Debug)]
pub(super) struct Child {
    part: Part,
    /// Address at which the child listens.
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
    process: tokio::process::Child,
    /// Kept open: a process fails when it writes to a closed standard output.
    _stdout: BufReader<Take<ChildStdout>>,
}

impl Child {
    /// Starts `part` with only `settings` as its environment and waits until it prints its address.
    pub(super) async fn start(
        part: Part,
        directory: &Path,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let log = part.log(directory);
        let stderr =
            File::options().create(true).append(true).open(&log).context("cannot write a log")?;
        let mut process = Command::new(&program)
            .args(["demo-part", part.name()])
            .env_clear()
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot start {} as the {}", program.display(), part.name())
            })?;
        let pid = process.id().context("a process just started has an id")?;
        let stdout = process.stdout.take().context("standard output was asked for")?;
        let mut stdout = BufReader::new(stdout.take(STDOUT_LIMIT_BYTES));
        let address = match timeout(START_LIMIT, address(&mut stdout)).await {
            Ok(Ok(address)) => address,
            Ok(Err(error)) => {
                // The output has ended, so the process has ended or will soon: its status says why.
                let status = timeout(END_LIMIT, process.wait()).await;
                let status = status.map_or_else(
                    |_| "still runs".into(),
                    |end| end.map_or_else(|e| e.to_string(), |s| s.to_string()),
                );
                return Err(error.context(format!("the {} did not start ({status})", part.name())));
            }
            Err(_) => bail!("the {} did not listen within {START_LIMIT:?}", part.name()),
        };
        Ok(Child { part, address, pid, process, _stdout: stdout })
    }

    /// Sends SIGKILL and does not wait.
    pub(super) fn send_kill(&mut self) -> anyhow::Result<()> {
        self.process
            .start_kill()
            .with_context(|| format!("cannot kill the {} (pid {})", self.part.name(), self.pid))
    }

    /// Sends SIGKILL, unless the process has ended already, and waits for its end.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        if self.process.try_wait()?.is_none() {
            self.send_kill()?;
        }
        let ended = timeout(END_LIMIT, self.process.wait()).await;
        ended.map_err(|_| {
            anyhow!(
                "the {} (pid {}) survived SIGKILL for {END_LIMIT:?}",
                self.part.name(),
                self.pid
            )
        })??;
        Ok(())
    }
}

/// Finds the address in a child's output.
async fn address(stdout: &mut BufReader<Take<ChildStdout>>) -> anyhow::Result<SocketAddr> {
    let mut line = String::new();
    while stdout.read_line(&mut line).await? > 0 {
        if let Some(address) = line.trim_end().strip_prefix(LISTENING) {
            return address.parse().with_context(|| format!("not an address: {address:?}"));
        }
        line.clear();
    }
    bail!("it never said \"{LISTENING}…\"")
}

/// Tells the kernel to kill this process when the demo ends without cleanup, for example by SIGKILL.
///
/// The signal follows the *thread* that started this process: the demo starts its children from the
/// runtime's own thread, which lives as long as the demo.
pub(super) fn die_with_the_demo() {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        tracing::warn!(%error, "this process would outlive a killed demo");
    }
}

/// Turns this process into `tidegate serve`. Returns only on failure.
pub(super) fn become_proxy() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let error = std::process::Command::new(&program).arg("serve").exec();
    Err(anyhow::Error::new(error).context(format!("cannot run {} serve", program.display())))
}
