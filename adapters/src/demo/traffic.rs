//! Traffic: the demo's callers, one per actor; each caller checks every response.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::client::{CallError, Client, PATIENCE};
use super::screen::{Screen, live_line};
use super::tally::{Actor, Tally};
use crate::terminal::Colours;
use crate::top::Scraped;

/// Invokes all actors at the given rate, with live lines, until the time is up or `hurry` is cancelled.
pub(super) async fn count(
    args: &DemoArgs,
    tally: &Tally,
    clients: &mut [Client],
    screen: &mut Screen,
    hurry: &CancellationToken,
) -> anyhow::Result<()> {
    let observer = clients.first().map(Client::beside);
    let mut stages = Stages { observer: observer.filter(|_| screen.is_terminal()), last: None };
    let started = Instant::now();
    let stop = CancellationToken::new();
    let period = Duration::from_secs(1) * args.actors / args.rate;
    let callers = tally.actors.iter().zip(clients).zip(0..).map(|((actor, client), n)| {
        // Callers start at different times, so that the rate is even.
        let mut pace = interval_at(started + period * n / args.actors, period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        call(client, actor, tally, Until::Told(&stop, pace))
    });
    let show = async {
        let mut end = pin!(sleep(args.duration));
        let mut shown = started;
        loop {
            let over = tokio::select! {
                () = sleep(screen.period()) => false,
                () = &mut end => true,
                () = hurry.cancelled() => true,
            };
            let now = Instant::now();
            let line = live_line(now - started, now - shown, tally.lately(), tally);
            screen.show(&(line + &stages.shown().await?))?;
            shown = now;
            if over {
                break;
            }
        }
        if hurry.is_cancelled() {
            screen.say("Interrupted: on to the crash. Ctrl-C once more ends at once.")?;
        }
        stop.cancel();
        anyhow::Ok(())
    };
    tokio::try_join!(try_join_all(callers), show).map(drop)
}

/// The stages of the proxy, below the live line of a terminal.
struct Stages {
    /// Absent where only that line is shown.
    observer: Option<Client>,
    last: Option<Scraped>,
}

impl Stages {
    /// A table of what they have done since the last one.
    async fn shown(&mut self) -> anyhow::Result<String> {
        let Some(observer) = &mut self.observer else { return Ok(String::new()) };
        let now = Scraped::read(&observer.metrics().await.context("the metrics are missing")?);
        let table = self.last.as_ref().map(|last| now.stages(last, Colours::none()));
        self.last = Some(now);
        Ok(table.map(|table| format!("\n\n{table}")).unwrap_or_default())
    }
}

/// How long a caller continues, and how fast.
#[derive(Debug)]
pub(super) enum Until<'a> {
    /// At this pace until cancelled; every call must succeed.
    Told(&'a CancellationToken, Interval),
    /// At full speed until the proxy is killed; the call in flight at that time may fail.
    Killed(&'a CancellationToken),
}

/// Runs the only caller of one actor: one call after the other, every response checked.
pub(super) async fn call(
    client: &mut Client,
    actor: &Actor,
    tally: &Tally,
    mut until: Until<'_>,
) -> anyhow::Result<()> {
    let mut turned_away = 0;
    loop {
        let stop = match &mut until {
            Until::Told(stop, pace) => {
                tokio::select! {
                    _ = pace.tick() => {}
                    () = stop.cancelled() => {}
                }
                *stop
            }
            Until::Killed(killed) => *killed,
        };
        if stop.is_cancelled() {
            return Ok(());
        }
        let (expected, sent) = (actor.trying(), Instant::now());
        match client.increment(&actor.name).await {
            Ok(count) if count == expected => {
                turned_away = 0;
                actor.acknowledge(count);
                tally.record(sent.elapsed());
            }
            Ok(count) => {
                bail!("{} was called for the {expected}. time and answered {count}", actor.name)
            }
            Err(CallError::Shed { after, .. }) if turned_away < PATIENCE => {
                actor.turned_away();
                turned_away += 1;
                tokio::select! {
                    () = sleep(after) => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(_) if matches!(until, Until::Killed(killed) if killed.is_cancelled()) => {
                return Ok(());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("a call to {} failed", actor.name));
            }
        }
    }
}
