//! Process: starts a server under test, watches it and kills it by its pid, also when this program fails.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

const ANNOUNCEMENT: &str = "listening on http://";
/// How long a server may take before it listens.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a killed process may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a failed server's log that are shown.
const LOG_TAIL: usize = 2000;

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    address: SocketAddr,
    log: PathBuf,
    _output: JoinSet<()>,
}

impl Process {
    /// Starts a server that prints `listening on http://ADDRESS`; its standard error goes to a file in `logs`.
    ///
    /// # Errors
    /// When the server cannot be started or does not listen in time, with the end of its log.
    pub async fn start(name: &str, mut command: Command, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{}.log", name.replace(' ', "-")));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("creating {}", log.display()))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("starting {name}: {}", command.as_std().get_program().display())
            })?;
        let pid = child.id().context("a process that just started has a pid")?;
        let stdout = child.stdout.take().context("standard output was piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = match timeout(START_LIMIT, announced(&mut lines)).await {
            Ok(Ok(address)) => address,
            Ok(Err(error)) => bail!("{name} did not start: {error:#}\n{}", tail(&log)),
            Err(_) => bail!("{name} did not listen within {START_LIMIT:?}\n{}", tail(&log)),
        };
        let mut output = JoinSet::new();
        output.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { name: name.into(), child, pid, address, log, _output: output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills the process and waits for its end.
    ///
    /// # Errors
    /// When the process has ended by itself, with the end of its log, or cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself: {status}\n{}", self.name, tail(&self.log));
        }
        timeout(STOP_LIMIT, self.child.kill()).await.with_context(|| {
            format!("{} is still there {STOP_LIMIT:?} after its kill", self.name)
        })??;
        Ok(())
    }
}

impl Drop for Process {
    /// Waits for the end of the killed process, so that its data directory can be removed.
    #[expect(
        clippy::disallowed_methods,
        reason = "a drop cannot await; it waits for at most a second"
    )]
    fn drop(&mut self) {
        for _ in 0..200 {
            if self.child.start_kill().is_err() || !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn announced(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<SocketAddr> {
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.trim().strip_prefix(ANNOUNCEMENT) {
            return address.parse().with_context(|| format!("{address:?} is no address"));
        }
    }
    bail!("it ended before it listened")
}

fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL)..]).into_owned()
}
