//! Bench: starts the host, and the targets beside it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::Method;
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::Client;
use crate::compare::CompareArgs;
use crate::dialect::Dialect;
use crate::drive::Rig;
use crate::host::CALLS_PATH;
use crate::process::Process;
use crate::procfs;
use crate::register::register;

/// The actor system of every run.
const SYSTEM: &str = "loadtest";
/// Longer than any limit of the target, so that the target ends a call first.
const DEADLINE: Duration = Duration::from_secs(80);

/// The measured program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Reference,
    /// Tidegate with this durability.
    Tidegate(&'static str),
    /// The build that it is compared with, with this durability.
    Before(&'static str),
}

/// A running target with registered actors.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) process: Process,
    pub(super) rig: Rig,
    // Declared last: removed after the process that writes into it was killed.
    _data: Option<TempDir>,
}

/// The state of a whole run.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) args: CompareArgs,
    pub(super) file_system: String,
    host: Process,
    program: PathBuf,
    tidegate: PathBuf,
    before: Option<PathBuf>,
    scratch: TempDir,
}

impl Target {
    pub(super) fn name(self) -> String {
        match self {
            Self::Reference => "reference".into(),
            Self::Tidegate(durability) => format!("tidegate {durability}"),
            Self::Before(durability) => format!("before {durability}"),
        }
    }
}

impl Bench {
    /// Finds the programs and starts the host.
    pub(super) async fn start(args: CompareArgs) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let beside = program.parent().context("a program lies in a directory")?.to_path_buf();
        let tidegate = args.tidegate.clone().unwrap_or_else(|| beside.join("tidegate"));
        let before = args.before.clone();
        for binary in std::iter::once(&tidegate).chain(&before) {
            ensure!(
                binary.is_file(),
                "{} is not there: run `cargo build --release` first, or name the binary with --tidegate",
                binary.display()
            );
        }
        let parent = args.data_dir.clone().unwrap_or(beside);
        let scratch =
            tempfile::Builder::new().prefix("tidegate-compare-").tempdir_in(&parent).with_context(
                || format!("no directory can be made in {}; try --data-dir", parent.display()),
            )?;
        let file_system = procfs::file_system(scratch.path())?;
        let mut command = Command::new(&program);
        command
            .args(["host", "--exit-with-stdin", "--state-bytes"])
            .arg(args.state_bytes.to_string());
        let host = Process::start("host", command, scratch.path()).await?;
        Ok(Self { args, file_system, host, program, tidegate, before, scratch })
    }

    /// The targets in the order of a round; each round begins with another target.
    pub(super) fn targets(&self, round: u32) -> Vec<Target> {
        let mut targets = vec![Target::Reference];
        for setting in self.args.durability.settings() {
            targets.push(Target::Tidegate(setting));
            if self.before.is_some() {
                targets.push(Target::Before(setting));
            }
        }
        let first = round as usize % targets.len();
        targets.rotate_left(first);
        targets
    }

    /// Starts a target on an empty data directory.
    pub(super) async fn bring_up(&self, target: Target) -> anyhow::Result<Up> {
        let (binary, durability) = match target {
            Target::Reference => (None, ""),
            Target::Tidegate(durability) => (Some(&self.tidegate), durability),
            Target::Before(durability) => (self.before.as_ref(), durability),
        };
        let (command, data, dialect) = match binary {
            None => {
                let mut command = Command::new(&self.program);
                command.args(["bare-proxy", "--exit-with-stdin", "--upstream"]);
                command.arg(self.host.address().to_string());
                (command, None, Dialect::Callback)
            }
            Some(binary) => {
                let data = TempDir::new_in(self.scratch.path())?;
                let mut command = Command::new(binary);
                // The caller's environment must not change the measurement.
                command.arg("serve").env_clear();
                command.env("PROXY_HTTP_PORT", "0").env("TIDEGATE_HTTP_ADDRESS", "127.0.0.1");
                command.env("PROXY_ACTOR_SYSTEM_NAME", SYSTEM);
                command.env("USER_FUNCTION_HOST", self.host.address().ip().to_string());
                command.env("USER_FUNCTION_PORT", self.host.address().port().to_string());
                command.env("TIDEGATE_DATA_DIR", data.path().join("data"));
                command.env("TIDEGATE_DURABILITY", durability);
                command.envs(self.args.settings.iter().map(|(name, value)| (name, value)));
                (command, Some(data), Dialect::Invoke)
            }
        };
        let process = Process::start(&target.name(), command, self.scratch.path()).await?;
        let rig = self.rig(process.address(), dialect);
        if dialect == Dialect::Invoke {
            let mut client = Client::new(rig.target, DEADLINE);
            register(&mut client, SYSTEM, rig.actors, self.args.snapshot_ms).await?;
        }
        Ok(Up { process, rig, _data: data })
    }

    /// The host's process id.
    pub(super) fn host_pid(&self) -> u32 {
        self.host.pid()
    }

    /// Returns the number of actions that the host has run since its start.
    pub(super) async fn host_calls(&self) -> anyhow::Result<u64> {
        let mut client = Client::new(self.host.address(), DEADLINE);
        let request = client.request(Method::GET, CALLS_PATH.parse()?, Bytes::new());
        let answer = client.call(request).await.context("asking the host")?.into_body();
        Ok(std::str::from_utf8(&answer)?.parse()?)
    }

    /// Stops the host.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.host.kill().await
    }

    fn rig(&self, target: SocketAddr, dialect: Dialect) -> Rig {
        Rig {
            target,
            dialect,
            system: SYSTEM.into(),
            actors: self.args.actors,
            state_bytes: self.args.state_bytes,
            connections: self.args.connections,
            deadline: DEADLINE,
            seed: 1,
        }
    }
}
