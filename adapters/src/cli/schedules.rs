//! `tidegate schedules`: creates, shows and changes schedules of a running proxy.

mod show;

use std::time::Duration;

use bytes::Bytes;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use http::Method;

use super::actor::ActorName;
use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::query::{Query, encoded};
use super::{print, print_json};
use crate::app::StartError;
use crate::config::{Kind, Value};
use crate::wire::{ScheduleForm, ScheduleListing, ScheduleView};

const EXAMPLES: &str = "\
Times are RFC 3339 or Unix milliseconds, durations such as 90s, 15m, 1d. The time of a run is that of its zone, also on days
on which the clock changes.

Examples:
  tidegate schedules create shop/nightly report run --cron '30 2 * * *' --zone Europe/Berlin
  tidegate schedules create shop/poll stock check --every 15m --overlap queue_one
  tidegate schedules show shop/nightly
  tidegate schedules list shop
  tidegate schedules pause shop/nightly";

/// Creates, shows and changes schedules
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Schedules {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the schedules of a system
    List {
        /// The system
        system: String,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        proxy_args: ProxyArgs,
    },
    /// Shows a schedule: its next five runs, those that have not ended, and the last twenty
    Show {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        output: Output,
    },
    /// Creates a schedule
    Create(Box<Create>),
    /// Begins no run from now on
    Pause(One),
    /// Ends a pause
    Resume(One),
    /// Begins a run now
    Run(One),
    /// Removes a schedule
    Delete(One),
}

#[derive(Debug, Args)]
struct One {
    /// The schedule
    #[arg(value_name = "SYSTEM/SCHEDULE")]
    schedule: ActorName,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").required(true).args(["cron", "every", "at"]))]
struct Create {
    #[command(flatten)]
    one: One,
    /// The actor that is called
    actor: String,
    /// Its action
    action: String,
    /// When, as a cron expression of five fields, or six with the second first
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// The time zone of the expression [default: UTC]
    #[arg(long, value_name = "NAME", requires = "cron")]
    zone: Option<String>,
    /// After each such time
    #[arg(long, value_name = "DURATION", value_parser = parse_time)]
    every: Option<Duration>,
    /// The first time of a period
    #[arg(long, value_name = "TIME", requires = "every")]
    first: Option<String>,
    /// Once, at this time
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// What happens while the run before has not ended
    #[arg(long, default_value = "skip")]
    overlap: OverlapArg,
    /// How late a run may be: none, all or a duration [default: 1m, of a single time all]
    #[arg(long, value_name = "DURATION", value_parser = catch_up)]
    catch_up: Option<String>,
    /// Each run is later by up to so much
    #[arg(long, value_name = "DURATION", value_parser = parse_time)]
    jitter: Option<Duration>,
    /// No run is later than this
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
    /// Begins no run until it is resumed
    #[arg(long)]
    paused: bool,
    /// Whether any member of a pool may run it
    #[arg(long)]
    pooled: bool,
    /// Replaces a schedule of this name; its numbers and runs stay
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum OverlapArg {
    Skip,
    QueueOne,
    Allow,
}

/// Parses a time such as 90s.
pub(super) fn parse_time(given: &str) -> Result<Duration, String> {
    match (Kind::Time { min: 0, max: u64::MAX }).parse(given)? {
        Value::Time(time) => Ok(time),
        _ => Err("must be a time such as 90s".into()),
    }
}

fn catch_up(given: &str) -> Result<String, String> {
    match given {
        "none" | "all" => Ok(given.into()),
        time => parse_time(time).map(|time| time.as_millis().to_string()),
    }
}

impl Create {
    fn form(&self) -> ScheduleForm {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        let millis = |given: Option<Duration>| {
            given.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        };
        ScheduleForm {
            name: self.one.schedule.name.clone(),
            actor: self.actor.clone(),
            action: self.action.clone(),
            cron: text(&self.cron),
            zone: text(&self.zone),
            every_ms: millis(self.every),
            first: text(&self.first),
            at: text(&self.at),
            overlap: match self.overlap {
                OverlapArg::Skip => "skip",
                OverlapArg::QueueOne => "queue_one",
                OverlapArg::Allow => "allow",
            }
            .into(),
            catch_up: text(&self.catch_up),
            jitter_ms: millis(self.jitter),
            end: text(&self.end),
            paused: self.paused,
            pooled: self.pooled,
            ..ScheduleForm::default()
        }
    }
}

impl Schedules {
    pub(super) async fn run(self) -> Result<(), StartError> {
        match self.command {
            Command::List { system, output, proxy_args } => {
                list(&system, output, &proxy_args).await
            }
            Command::Show { one, output } => {
                let view = one.ask(Method::GET, "", Bytes::new()).await?;
                if output.is_json() { print_json(&view) } else { print(&show::whole(&view)) }
            }
            Command::Create(create) => {
                let body = serde_json::to_vec(&create.form()).map_err(anyhow::Error::from)?;
                let (one, replace) = (create.one, create.replace);
                let view = if replace {
                    one.ask(Method::PUT, "", body.into()).await?
                } else {
                    let client = Client::new(&one.proxy_args)?;
                    let path = path_of(&one.schedule.system, None);
                    let answer = client.send_json(Method::POST, &path, body.into()).await;
                    read(&answer.map_err(anyhow::Error::from)?)?
                };
                print(&show::done("created", &one.schedule, &view))
            }
            Command::Pause(one) => one.change("pause", "paused").await,
            Command::Resume(one) => one.change("resume", "resumed").await,
            Command::Run(one) => one.change("run", "begun a run of").await,
            Command::Delete(one) => {
                let client = Client::new(&one.proxy_args)?;
                let ActorName { system, name } = &one.schedule;
                let path = path_of(system, Some(name));
                client.send(Method::DELETE, &path).await.map_err(anyhow::Error::from)?;
                print(&format!("deleted {}\n", one.schedule))
            }
        }
    }
}

impl One {
    async fn ask(
        &self,
        method: Method,
        rest: &str,
        body: Bytes,
    ) -> Result<ScheduleView, StartError> {
        let client = Client::new(&self.proxy_args)?;
        let ActorName { system, name } = &self.schedule;
        let path = path_of(system, Some(name)) + rest;
        let answer = client.send_json(method, &path, body).await.map_err(anyhow::Error::from)?;
        Ok(read(&answer)?)
    }

    async fn change(&self, what: &str, done: &str) -> Result<(), StartError> {
        let view = self.ask(Method::POST, &format!("/{what}"), Bytes::new()).await?;
        print(&show::done(done, &self.schedule, &view))
    }
}

async fn list(system: &str, output: Output, proxy_args: &ProxyArgs) -> Result<(), StartError> {
    let client = Client::new(proxy_args)?;
    let mut after = String::new();
    let mut all = Vec::new();
    loop {
        let query = Query::default().with("after", Some(&after));
        let path = format!("{}?{query}", path_of(system, None));
        let answer = client.send(Method::GET, &path).await.map_err(anyhow::Error::from)?;
        let ScheduleListing { schedules, next } = read(&answer)?;
        if output.is_json() {
            all.extend(schedules);
        } else {
            print(&show::lines(&schedules))?;
        }
        match next {
            Some(next) => after = next,
            None if output.is_json() => {
                return print_json(&ScheduleListing { schedules: all, next: None });
            }
            None => return Ok(()),
        }
    }
}

fn path_of(system: &str, name: Option<&str>) -> String {
    let name = name.map(|name| format!("/{}", encoded(name))).unwrap_or_default();
    format!("/api/v1/system/{}/schedules{name}", encoded(system))
}
