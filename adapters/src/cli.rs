//! Command line: the commands of `tidegate`.

mod acl;
mod actor;
mod actors;
mod backup;
mod client;
mod confirm;
mod dashboards;
mod decode;
mod delete;
mod diff;
mod doctor;
mod effects;
mod explain;
mod export;
mod health;
mod channels;
mod hosts;
mod hot;
mod import;
mod init;
mod invoke;
mod log_level;
mod made;
mod offline;
mod output;
mod packaging;
mod ps;
mod query;
mod record;
mod reseal;
mod restore;
mod restore_backup;
mod schedules;
mod source;
mod state;
mod tail;
mod tls;
mod top;
mod warnings;

use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::{self, StartError};
use crate::clock;
use crate::config::{self, Config, Flags};
#[cfg(feature = "demo")]
use crate::demo;
use crate::log;
use crate::metrics;

/// Printed by `--version`; a build without syncs says so.
const VERSION: &str = if cfg!(tidegate_unsynced) {
    concat!(env!("CARGO_PKG_VERSION"), " (unsynced: loses data, for tests only)")
} else {
    env!("CARGO_PKG_VERSION")
};

const ABOUT: &str = "\
An actor mesh proxy: a drop-in replacement for the Spawn 1.3 sidecar.

A program written with a Spawn SDK (Node, Go, Python, Rust) registers its actors here and is called
back, one invocation per actor at a time, with the actor's state, which is kept on disk.";

const DEMO: &str = "  tidegate demo                        see it work, nothing needed\n";

const START_HERE: &str =
    "  tidegate serve                       the proxy, on port 9001, calling a host on port 8090
  USER_FUNCTION_PORT=8091 tidegate serve
                                       the same for a Python host; settings are in the environment
  tidegate init DIR --lang python      a first actor, to be called with curl; also node, go, rust
  tidegate config                      every setting that is in effect, and where it comes from
  tidegate doctor                      what is wrong with the installation, and what to do
  curl localhost:9001/health           is it up?";

#[derive(Debug, Parser)]
#[command(name = "tidegate", version = VERSION, about = ABOUT, after_help = start_here())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the proxy until SIGTERM or Ctrl-C
    #[command(after_long_help = config::help())]
    Serve {
        #[command(flatten)]
        flags: Flags,
        /// Takes the database over from a proxy that lives, which ends with exit code 75
        #[arg(long)]
        take_over: bool,
    },
    /// Shows the effective settings with their source, secrets masked
    #[command(after_long_help = config::help())]
    Config {
        #[command(flatten)]
        flags: Flags,
        /// Prints all settings as docs/settings.md shows them instead
        #[arg(long, conflicts_with = "output")]
        markdown: bool,
        /// Prints all metrics as docs/metrics.md shows them instead
        #[arg(long, conflicts_with = "output")]
        metrics: bool,
        #[command(flatten)]
        output: output::Output,
    },
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoPart(demo::PartArgs),
    /// Removes an actor of a running proxy: its state, history and registration
    Delete(delete::Delete),
    /// Shows an actor's state: the latest, of a revision, or at a time
    State(state::State),
    /// Lists an actor's revisions
    History(state::History),
    /// Compares two states, line by line
    Diff(diff::Diff),
    /// Makes an older revision of an actor's state the current one
    Restore(restore::Restore),
    Actors(actors::Actors),
    Acl(acl::Acl),
    Effects(effects::Effects),
    Schedules(schedules::Schedules),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Init(init::InitArgs),
    Invoke(invoke::InvokeArgs),
    Ps(ps::Ps),
    Top(top::Top),
    Warnings(warnings::Warnings),
    Tail(tail::Tail),
    Explain(explain::Explain),
    LogLevel(log_level::LogLevel),
    Record(record::Record),
    Reseal(reseal::ResealArgs),
    Doctor(doctor::DoctorArgs),
    Health(health::HealthArgs),
    Hosts(hosts::Hosts),
    Hot(hot::Hot),
    Channels(channels::Channels),
    Backup(backup::BackupArgs),
    Dashboards(dashboards::DashboardsArgs),
    RestoreBackup(restore_backup::RestoreBackupArgs),
    Completions(packaging::CompletionsArgs),
    Man(packaging::ManArgs),
    Tls(tls::Tls),
}

impl Command {
    /// Whether the command says or checks something of its arguments only, or of the clock itself.
    fn needs_no_clock(&self) -> bool {
        matches!(
            self,
            Self::Config { .. }
                | Self::Acl(_)
                | Self::Init(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::Doctor(_)
        )
    }
}

fn start_here() -> String {
    format!("Start here:\n{}{START_HERE}", if cfg!(feature = "demo") { DEMO } else { "" })
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    let _flush = log::FlushOnDrop;
    if clock::is_before_1970() && !command.needs_no_clock() {
        return ended(Err(StartError::Clock));
    }
    let done = match command {
        Command::Serve { flags, take_over } => serve(flags, take_over),
        Command::Config { markdown: true, .. } => print(&config::markdown()),
        Command::Config { metrics: true, .. } => print(&metrics::markdown()),
        Command::Config { flags, output, .. } => show(&flags, output),
        #[cfg(feature = "demo")]
        Command::Demo(args) => {
            on_runtime(async { demo::run(args).await.map_err(StartError::Demo) })
        }
        #[cfg(feature = "demo")]
        Command::DemoPart(part) => on_runtime(async { Ok(demo::part(part).await?) }),
        Command::Delete(delete) => on_runtime(delete.run()),
        Command::State(state) => on_runtime(state.run()),
        Command::History(history) => on_runtime(history.run()),
        Command::Restore(restore) => on_runtime(restore.run()),
        Command::Schedules(schedules) => on_runtime(schedules.run()),
        Command::Actors(actors) => return ended(on_runtime(actors.run())),
        Command::Acl(acl) => return ended(acl.run()),
        Command::Effects(effects) => on_runtime(effects.run()),
        Command::Diff(diff) => return ended(on_runtime(diff.run())),
        Command::Health(health) => on_runtime(health.run()),
        Command::Hosts(hosts) => on_runtime(hosts.run()),
        Command::Hot(hot) => on_runtime(hot.run()),
        Command::Channels(channels) => on_runtime(channels.run()),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::Doctor(doctor) => return ended(on_runtime(doctor.run())),
        Command::Export(export) => on_runtime(export.run()),
        Command::Import(import) => on_runtime(import.run()),
        Command::Init(init) => init.run(),
        Command::Dashboards(dashboards) => dashboards.run(),
        Command::Invoke(invoke) => on_runtime(invoke.run()),
        Command::Ps(ps) => on_runtime(ps.run()),
        Command::Warnings(warnings) => return ended(on_runtime(warnings.run())),
        Command::Top(top) => on_runtime(top.run()),
        Command::Tail(tail) => on_runtime(tail.run()),
        Command::Explain(explain) => return ended(on_runtime(explain.run())),
        Command::LogLevel(level) => on_runtime(level.run()),
        Command::Record(record) => on_runtime(record.run()),
        Command::Reseal(reseal) => on_runtime(reseal.run()),
        Command::Backup(backup) => on_runtime(backup.run()),
        Command::RestoreBackup(restore) => on_runtime(restore.run()),
        Command::Tls(tls) => tls.run(),
    };
    ended(done.map(|()| ExitCode::SUCCESS))
}

fn ended(done: Result<ExitCode, StartError>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(mut flags: Flags, take_over: bool) -> Result<(), StartError> {
    if take_over {
        flags.set.push(("TIDEGATE_TAKE_OVER".into(), "true".into()));
    }
    let config = Config::load(&flags)?;
    on_runtime(app::serve(config))
}

fn show(flags: &Flags, output: output::Output) -> Result<(), StartError> {
    let config = Config::load(flags)?;
    config.settings()?;
    if output.is_json() {
        return print_json(&config::effective_json(&config));
    }
    print(&config::effective(&config))
}

fn print(text: &str) -> Result<(), StartError> {
    let mut stdout = std::io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match printed {
        // The reader has closed the pipe: `tidegate history … | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| StartError::Other(error.into())),
    }
}

/// Prints what a request answered, as its endpoint does.
fn print_json(value: &impl serde::Serialize) -> Result<(), StartError> {
    let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
    print(&(text + "\n"))
}

/// Writes a line to stderr, after all lines of the log.
fn say(text: &str) {
    log::say(&format!("tidegate: {text}"));
}

fn on_runtime<T>(work: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    // As one type: `block_on` would hold the code of each command three times, once per kind of runtime.
    let work: Pin<Box<dyn Future<Output = _>>> = Box::pin(work);
    runtime.map_err(anyhow::Error::from)?.block_on(work)
}
