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
use crate::compare::{CompareArgs, Scenario};
use crate::dialect::Dialect;
use crate::drive::Rig;
use crate::host::CALLS_PATH;
use crate::process::Process;
use crate::procfs;
use crate::receiver::BYTES_PATH;
use crate::register::register;

/// What switches observing off.
const UNOBSERVED: [(&str, &str); 2] =
    [("SPAWN_DISABLE_METRICS", "true"), ("TIDEGATE_KEPT_CALLS", "0")];
/// What makes 1 % of calls traces.
const SAMPLED: [(&str, &str); 2] =
    [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.01")];

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
    /// Tidegate without metrics, kept calls and traces, with this durability.
    Unobserved(&'static str),
    /// Tidegate with a side effect in each call, with this durability.
    Emitting(&'static str),
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
    /// What takes traces, where observing is measured.
    receiver: Option<Process>,
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
            Self::Unobserved(durability) => format!("unobserved {durability}"),
            Self::Emitting(durability) => format!("with effects {durability}"),
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
        let receiver = if args.scenario == Scenario::Observing {
            let mut command = Command::new(&program);
            command.args(["receiver", "--exit-with-stdin"]);
            Some(Process::start("receiver", command, scratch.path()).await?)
        } else {
            None
        };
        Ok(Self { args, file_system, host, receiver, program, tidegate, before, scratch })
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
            Target::Tidegate(durability)
            | Target::Unobserved(durability)
            | Target::Emitting(durability) => (Some(&self.tidegate), durability),
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
                match (&self.receiver, target) {
                    (Some(_), Target::Unobserved(_)) => drop(command.envs(UNOBSERVED)),
                    (Some(receiver), _) => {
                        let endpoint = format!("http://{}", receiver.address());
                        command.envs(SAMPLED).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
                    }
                    (None, _) => {}
                }
                command.envs(self.args.settings.iter().map(|(name, value)| (name, value)));
                (command, Some(data), Dialect::Invoke)
            }
        };
        let process = Process::start(&target.name(), command, self.scratch.path()).await?;
        let effects = matches!(target, Target::Emitting(_));
        let rig = self.rig(process.address(), dialect, effects);
        if dialect == Dialect::Invoke {
            let mut client = Client::new(rig.target, DEADLINE);
            let actors = if effects { 2 * rig.actors } else { rig.actors };
            register(&mut client, SYSTEM, actors, self.args.snapshot_ms).await?;
        }
        Ok(Up { process, rig, _data: data })
    }

    /// The host's process id.
    pub(super) fn host_pid(&self) -> u32 {
        self.host.pid()
    }

    /// Returns the number of actions that the host has run since its start.
    pub(super) async fn host_calls(&self) -> anyhow::Result<u64> {
        number_at(&self.host, CALLS_PATH).await.context("asking the host")
    }

    /// Returns the bytes of traces that have come since the start; `None` where observing is not measured.
    pub(super) async fn traced_bytes(&self) -> anyhow::Result<Option<u64>> {
        let Some(receiver) = &self.receiver else { return Ok(None) };
        number_at(receiver, BYTES_PATH).await.context("asking the receiver").map(Some)
    }

    /// Stops the host and the receiver.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        if let Some(receiver) = self.receiver {
            receiver.kill().await?;
        }
        self.host.kill().await
    }

    fn rig(&self, target: SocketAddr, dialect: Dialect, effects: bool) -> Rig {
        Rig {
            target,
            dialect,
            system: SYSTEM.into(),
            // As many actors live on either side: those that are called, and those that effects reach.
            actors: if effects { (self.args.actors / 2).max(1) } else { self.args.actors },
            effects,
            state_bytes: self.args.state_bytes,
            connections: self.args.connections,
            deadline: DEADLINE,
            seed: 1,
        }
    }
}

/// Returns the number that a server of this package answers at a path.
async fn number_at(server: &Process, path: &str) -> anyhow::Result<u64> {
    let mut client = Client::new(server.address(), DEADLINE);
    let request = client.request(Method::GET, path.parse()?, Bytes::new());
    let answer = client.call(request).await?.into_body();
    Ok(std::str::from_utf8(&answer)?.parse()?)
}
